//! How many unwraps a lease has left: reserved in durable blocks before they are used, counted exactly within a block.
//!
//! A block belongs to one agent and one dataset, so that the roll says who used what. The invariant: what was used and what
//! is reserved never exceed the budget, and only what was reserved durably is used. A crash therefore loses the rest of the
//! open blocks, and never gives an unwrap back that was made. Pure; whoever calls makes [`Plan`]s durable before
//! [`Account::apply`].

use std::collections::BTreeMap;

use crate::protocol::ids::{AgentName, DatasetName};

/// How many unwraps are reserved at once: one durable commit (0.5 ms) per thousand of them.
pub const BLOCK: u64 = 1024;

/// Who uses which dataset's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// The dataset.
    pub dataset: DatasetName,
    /// The agent.
    pub agent: AgentName,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Block {
    reserved: u64,
    used: u64,
}

/// The budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} unwraps are asked for, and {left} of the lease's budget are left")]
pub struct Spent {
    /// How many were asked for.
    pub asked: u64,
    /// How many are left for this agent and dataset.
    pub left: u64,
}

/// What must become durable before more can be used: blocks closed with what was used of them, and one opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Blocks that are closed, with what was used.
    pub closed: Vec<(User, u64)>,
    /// The block that is opened.
    pub opened: Option<(User, u64)>,
}

/// The budget of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    budget: u64,
    spent: u64,
    blocks: BTreeMap<User, Block>,
}

impl Account {
    /// A budget of which `spent` was used, or lost, before.
    pub const fn new(budget: u64, spent: u64) -> Self {
        Self { budget, spent, blocks: BTreeMap::new() }
    }

    /// How many unwraps there may be in all.
    pub const fn budget(&self) -> u64 {
        self.budget
    }

    /// How many were made, exactly, as far as this process has seen them; lost ones of earlier processes among them.
    pub fn used(&self) -> u64 {
        self.blocks.values().fold(self.spent, |sum, block| sum.saturating_add(block.used))
    }

    /// The most that can have been made when the process ends here: what a restart must assume.
    pub fn at_most(&self) -> u64 {
        self.blocks.values().fold(self.spent, |sum, block| sum.saturating_add(block.reserved))
    }

    /// Takes `count` unwraps out of the user's open block; `false` where it does not hold so many.
    pub fn draw(&mut self, user: &User, count: u64) -> bool {
        let Some(block) = self.blocks.get_mut(user) else { return count == 0 };
        match block.used.checked_add(count) {
            Some(used) if used <= block.reserved => {
                block.used = used;
                true
            }
            _ => false,
        }
    }

    /// What must become durable so that `count` can be drawn. The user's own block is closed; others are closed too where
    /// the rest of them is needed.
    ///
    /// # Errors
    /// [`Spent`] where the budget does not have so many.
    pub fn plan(&self, user: &User, count: u64) -> Result<Plan, Spent> {
        let left = self.budget.saturating_sub(self.used());
        if count > left {
            return Err(Spent { asked: count, left });
        }
        let close = |blocks: &mut dyn Iterator<Item = (&User, &Block)>| {
            blocks.map(|(user, block)| (user.clone(), block.used)).collect::<Vec<_>>()
        };
        let own = close(&mut self.blocks.iter().filter(|(of, _)| *of == user));
        let free = self.free_after(&own);
        let (closed, free) = if free >= count {
            (own, free)
        } else {
            let all = close(&mut self.blocks.iter());
            let free = self.free_after(&all);
            (all, free)
        };
        Ok(Plan { closed, opened: Some((user.clone(), count.max(BLOCK).min(free))) })
    }

    /// What must become durable so that the roll knows exactly what was used: every block in which something was, closed.
    pub fn settle(&self) -> Plan {
        let closed = self.blocks.iter().map(|(user, block)| (user.clone(), block.used)).collect();
        Plan { closed, opened: None }
    }

    /// Whether something was used that the roll does not know exactly.
    pub fn is_unsettled(&self) -> bool {
        self.blocks.values().any(|block| block.used > 0)
    }

    /// Puts a plan into effect that has become durable. Nobody may have drawn since it was made.
    pub fn apply(&mut self, plan: &Plan) {
        for (user, used) in &plan.closed {
            self.blocks.remove(user);
            self.spent = self.spent.saturating_add(*used);
        }
        if let Some((user, reserved)) = &plan.opened {
            self.blocks.entry(user.clone()).or_default().reserved += reserved;
        }
    }

    /// The account as it will be, for the record that becomes durable with the plan.
    #[must_use]
    pub fn after(&self, plan: &Plan) -> Self {
        let mut after = self.clone();
        after.apply(plan);
        after
    }

    /// What no block holds, once these are closed.
    fn free_after(&self, closed: &[(User, u64)]) -> u64 {
        let open = self.blocks.iter().filter(|(user, _)| !closed.iter().any(|(of, _)| of == *user));
        let held = open.fold(0, |sum: u64, (_, block)| sum.saturating_add(block.reserved));
        let spent = closed.iter().fold(self.spent, |sum, (_, used)| sum.saturating_add(*used));
        self.budget.saturating_sub(spent).saturating_sub(held)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn user(dataset: &str, agent: &str) -> User {
        User { dataset: DatasetName::new(dataset).unwrap(), agent: AgentName::new(agent).unwrap() }
    }

    #[test]
    fn a_block_is_reserved_once_and_used_up_exactly() {
        let mut account = Account::new(10_000, 0);
        let rep = user("land", "replicator");
        assert!(!account.draw(&rep, 1), "nothing is used that was not reserved");
        let plan = account.plan(&rep, 1).unwrap();
        assert_eq!(plan, Plan { closed: vec![], opened: Some((rep.clone(), BLOCK)) });
        account.apply(&plan);
        assert!(account.draw(&rep, BLOCK) && !account.draw(&rep, 1));
        assert_eq!((account.used(), account.at_most()), (BLOCK, BLOCK));
        let plan = account.plan(&rep, 256).unwrap();
        assert_eq!(plan.closed, [(rep.clone(), BLOCK)]);
        account.apply(&plan);
        assert_eq!((account.used(), account.at_most()), (BLOCK, 2 * BLOCK));
    }

    #[test]
    fn one_agents_reserve_does_not_starve_another() {
        let mut account = Account::new(1500, 0);
        let (one, two) = (user("land", "one"), user("land", "two"));
        account.apply(&account.plan(&one, 10).unwrap());
        assert!(account.draw(&one, 10));
        account.apply(&account.plan(&two, 400).unwrap());
        assert!(account.draw(&two, 400));
        // 1,490 are not used by the first, and the second gets of them what it needs.
        let plan = account.plan(&two, 1000).unwrap();
        assert_eq!(plan.closed.len(), 2);
        account.apply(&plan);
        assert!(account.draw(&two, 1000));
        assert_eq!(account.plan(&one, 91), Err(Spent { asked: 91, left: 90 }));
        account.apply(&account.plan(&one, 90).unwrap());
        assert!(account.draw(&one, 90));
        assert_eq!((account.used(), account.at_most()), (1500, 1500));
        assert_eq!(account.plan(&one, 1), Err(Spent { asked: 1, left: 0 }));
    }

    #[test]
    fn what_an_earlier_process_may_have_used_is_gone() {
        let mut account = Account::new(100, 60);
        let rep = user("land", "replicator");
        assert_eq!(account.plan(&rep, 41), Err(Spent { asked: 41, left: 40 }));
        account.apply(&account.plan(&rep, 40).unwrap());
        assert!(account.draw(&rep, 40) && !account.draw(&rep, 1));
    }

    proptest! {
        /// Whatever agents do and whichever commits fail: never more than the budget, never more than was durable.
        #[test]
        fn used_stays_within_durable_and_durable_within_the_budget(
            budget in 1..5_000_u64,
            steps in prop::collection::vec((0..3_usize, 0..2_usize, 0..300_u64, prop::bool::weighted(0.8)), 0..200),
        ) {
            let agents = ["one", "two", "three"];
            let mut account = Account::new(budget, 0);
            let (mut durable, mut made) = (0, 0);
            for (agent, dataset, count, commits) in steps {
                let user = user(["land", "police"][dataset], agents[agent]);
                if !account.draw(&user, count) {
                    let Ok(plan) = account.plan(&user, count) else {
                        prop_assert!(made + count > budget);
                        continue;
                    };
                    let after = account.after(&plan);
                    prop_assert!(after.at_most() <= budget);
                    if !commits {
                        continue;
                    }
                    durable = after.at_most();
                    account.apply(&plan);
                    prop_assert!(account.draw(&user, count));
                }
                made += count;
                prop_assert_eq!(account.used(), made);
                prop_assert!(made <= account.at_most());
                prop_assert!(account.at_most() <= durable.max(account.at_most()).min(budget));
                prop_assert_eq!(account.at_most(), durable);
            }
            let settled = account.after(&account.settle());
            prop_assert_eq!((settled.used(), settled.at_most()), (made, made));
        }
    }
}
