//! The relay's phases, a struct each, and how they follow each other (protocol.md §19).
//!
//! Every change is a post on the board, and the next state follows from state and post alone: so reading the board again
//! after a restart gives the state again. What is not on the board is what a restart loses: the TPM's parked sessions, for
//! which there is then another offer.

mod answers;

use std::collections::BTreeMap;

use crate::protocol::{
    ceremony::genesis::{
        Board, BoardError, Event, Message, Out, Post, Refusal, Reply, Step, Trouble,
        board::{MAX_POSTS, Refused, said},
        provisioning::{CheckedOffer, ProvisioningOffer, Stage},
        result::{GenesisResult, VerifiedResult},
        run::Taken,
    },
    charter::{SignedCharter, VerifiedCharter},
    hash::Hash,
    ids::{EmbassyName, OfficialName},
    paragraph::Reason,
    quorum::Position,
    roll::{Act, Who},
    tpm::approval::TpmApproval,
    wire::Document,
};

/// The most different completed charters that home can put up at one embassy: it may have had to correct one.
const MAX_CANDIDATES: usize = 8;

/// The quorums make their keys.
#[derive(Clone, Debug)]
pub struct MakingKeys {
    board: Board,
}

/// The TPM is asked for sessions.
#[derive(Clone, Debug)]
pub struct AwaitingOffer {
    board: Board,
    registers: bool,
    number: u32,
    trouble: Option<String>,
}

/// Officials approve what the TPM is to do.
#[derive(Clone, Debug)]
pub struct Collecting {
    board: Board,
    offer: Box<CheckedOffer>,
    approvals: BTreeMap<Position, (OfficialName, Vec<TpmApproval>)>,
    objections: BTreeMap<OfficialName, Reason>,
    trouble: Option<String>,
}

/// The TPM does it.
#[derive(Clone, Debug)]
pub struct Ordering {
    collected: Collecting,
}

/// The TPM makes its keys.
#[derive(Clone, Debug)]
pub struct AwaitingKeys {
    board: Board,
    trouble: Option<String>,
}

/// Home puts the charter together; officials sign it.
#[derive(Clone, Debug)]
pub struct Completing {
    board: Board,
    result: Box<VerifiedResult>,
    candidates: Vec<SignedCharter>,
}

/// The completed charter is in force.
#[derive(Clone, Debug)]
pub struct Founded {
    board: Board,
    charter: Box<VerifiedCharter>,
}

/// A genesis, as far as it has come.
#[derive(Clone, Debug)]
pub enum Genesis {
    /// The quorums make their keys.
    MakingKeys(MakingKeys),
    /// The TPM is asked for sessions.
    AwaitingOffer(AwaitingOffer),
    /// Officials approve what the TPM is to do.
    Collecting(Collecting),
    /// The TPM does it.
    Ordering(Ordering),
    /// The TPM makes its keys.
    AwaitingKeys(AwaitingKeys),
    /// Home puts the charter together; officials sign it.
    Completing(Completing),
    /// The completed charter is in force.
    Founded(Founded),
}

/// What a post does: the state after it, whether it was new, what is written into the roll, and what is to be done.
struct Turn {
    next: Genesis,
    taken: Taken,
    acts: Vec<Act>,
    outs: Vec<Out>,
}

impl Turn {
    const fn known(next: Genesis) -> Self {
        Self { next, taken: Taken::Known, acts: Vec::new(), outs: Vec::new() }
    }
}

/// The unchanged state, and why it is that.
type Unchanged = Box<(Genesis, Refused)>;

fn unchanged(genesis: Genesis, refusal: Refusal) -> Unchanged {
    Box::new((genesis, (refusal, None)))
}

impl Genesis {
    /// An empty board. Follow with [`Genesis::wake`].
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn new(last: VerifiedCharter, embassy: &EmbassyName) -> Result<Self, BoardError> {
        let mut outs = Vec::new();
        Ok(Self::settle(Self::MakingKeys(MakingKeys { board: Board::new(last, embassy)? }), &mut outs))
    }

    /// Reads a board that was kept or shown. Posts that do not hold are passed over; their number comes with it.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn read<'a>(
        last: VerifiedCharter,
        embassy: &EmbassyName,
        posts: impl IntoIterator<Item = &'a Post>,
    ) -> Result<(Self, u32), BoardError> {
        Ok(Self::new(last, embassy)?.follow(posts))
    }

    /// Reads on where a board was read before. The number of posts that were passed over comes with it.
    pub fn follow<'a>(self, posts: impl IntoIterator<Item = &'a Post>) -> (Self, u32) {
        posts.into_iter().fold((self, 0_u32), |(genesis, passed_over), post| match genesis.take(post) {
            Ok(turn) => (turn.next, passed_over),
            Err(unchanged) => (unchanged.0, passed_over.saturating_add(1)),
        })
    }

    /// After a start: the TPM's sessions are gone, and what was under way is begun again.
    pub fn wake(self) -> Step {
        let next = match self {
            Self::Collecting(Collecting { board, offer, .. })
            | Self::Ordering(Ordering { collected: Collecting { board, offer, .. } }) => {
                Self::offer_again(board, &offer, "the embassy's service was started again; its TPM's sessions are gone")
            }
            other => other,
        };
        let outbox = next.pending();
        Step { next, posts: Vec::new(), entries: Vec::new(), outbox }
    }

    /// One step. A refused message leaves everything as it was, but that evidence which it gives is posted.
    pub fn on(self, event: Event) -> (Step, Reply) {
        match event {
            Event::Said { from, message } => self.on_said(from, message),
            Event::Offered(offer) => self.on_own(Post::Offer(offer)),
            Event::Ordered => self.on_own(Post::Ordered),
            Event::Born(result) => self.on_own(Post::Result(result)),
            Event::NotOffered { why } => match self {
                Self::AwaitingOffer(phase) => quiet(Self::AwaitingOffer(AwaitingOffer { trouble: Some(why), ..phase })),
                other => quiet(other),
            },
            Event::NotBorn { why } => match self {
                Self::AwaitingKeys(phase) => quiet(Self::AwaitingKeys(AwaitingKeys { trouble: Some(why), ..phase })),
                other => quiet(other),
            },
            Event::Expired => match self {
                Self::Collecting(Collecting { board, offer, .. }) => {
                    let why = "the offer before was not approved by enough officials in time";
                    let next = Self::offer_again(board, &offer, why);
                    let outbox = next.pending();
                    (Step { next, posts: Vec::new(), entries: Vec::new(), outbox }, Reply::Accepted)
                }
                other => quiet(other),
            },
            Event::NotOrdered(trouble) => self.on_trouble(trouble),
            Event::Poked => {
                let outbox = self.pending();
                (Step { next: self, posts: Vec::new(), entries: Vec::new(), outbox }, Reply::Accepted)
            }
        }
    }

    fn on_said(self, from: OfficialName, message: Message) -> (Step, Reply) {
        if self.board().posts >= MAX_POSTS {
            let reply = Reply::Refused(Refusal::Full(MAX_POSTS));
            return (quiet(self).0, reply);
        }
        let post = Post::Message { from: from.clone(), message: Box::new(message) };
        match self.take(&post) {
            Ok(Turn { next, taken: Taken::Known, .. }) => (quiet(next).0, Reply::AlreadyAccepted),
            Ok(Turn { next, acts, outs, .. }) => {
                let mut entries = Vec::new();
                if let Post::Message { message, .. } = &post {
                    entries.push((Who::Official(from), said(message)));
                }
                entries.extend(next.own(acts));
                (Step { next, posts: vec![post], entries, outbox: outs }, Reply::Accepted)
            }
            Err(unchanged) => {
                let (genesis, (refusal, evidence)) = *unchanged;
                let reply = Reply::Refused(refusal);
                let Some((kind, evidence)) = evidence else { return (quiet(genesis).0, reply) };
                // protocol.md §19.3: what its sender signed twice, or wrongly, is kept and shown to all.
                let (step, _) = genesis.on_said(from, Message::Evidence(kind, evidence));
                (step, reply)
            }
        }
    }

    fn on_own(self, post: Post) -> (Step, Reply) {
        match self.take(&post) {
            Ok(Turn { next, taken: Taken::Known, .. }) => (quiet(next).0, Reply::AlreadyAccepted),
            Ok(Turn { next, acts, outs, .. }) => {
                let entries = next.own(acts);
                (Step { next, posts: vec![post], entries, outbox: outs }, Reply::Accepted)
            }
            Err(unchanged) => {
                let (genesis, (refusal, _)) = *unchanged;
                let next = genesis.troubled(&refusal.to_string());
                (quiet(next).0, Reply::Refused(refusal))
            }
        }
    }

    fn on_trouble(self, trouble: Trouble) -> (Step, Reply) {
        let Self::Ordering(Ordering { mut collected }) = self else { return quiet(self) };
        match trouble {
            Trouble::Retry { why } => {
                let act = Act::GenesisNotOrdered { why: Reason::of(&why) };
                collected.trouble = Some(why);
                let next = Self::Ordering(Ordering { collected });
                let entries = next.own(vec![act]);
                (Step { next, posts: Vec::new(), entries, outbox: Vec::new() }, Reply::Accepted)
            }
            Trouble::FreshApprovals { why } => {
                let act = Act::GenesisNotOrdered { why: Reason::of(&why) };
                let next = Self::offer_again(collected.board, &collected.offer, &why);
                let (entries, outbox) = (next.own(vec![act]), next.pending());
                (Step { next, posts: Vec::new(), entries, outbox }, Reply::Accepted)
            }
            Trouble::Refused(refused) => {
                let name = |(place, why): &(Position, String)| match collected.approvals.get(place) {
                    Some((name, _)) => format!("{name}: {why}"),
                    None => format!("{place}: {why}"),
                };
                let said = refused.iter().map(name).collect::<Vec<_>>().join("; ");
                let why = Reason::of(&format!("the TPM refused {said}"));
                let places = refused.into_iter().map(|(place, _)| place).collect();
                Self::Ordering(Ordering { collected }).on_own(Post::Refused { places, why })
            }
        }
    }

    /// The embassy's own acts.
    fn own(&self, acts: Vec<Act>) -> Vec<(Who, Act)> {
        acts.into_iter().map(|act| (Who::Embassy(self.board().embassy().clone()), act)).collect()
    }

    /// What a start, or a look at it, sets going.
    fn pending(&self) -> Vec<Out> {
        match self {
            Self::AwaitingOffer(AwaitingOffer { number, registers, .. }) => {
                vec![Out::Offer { number: *number, registers: *registers }]
            }
            Self::Ordering(Ordering { collected }) => vec![collected.order()],
            Self::AwaitingKeys(_) => vec![Out::MakeKeys],
            Self::Founded(_) => vec![Out::Founded],
            Self::MakingKeys(_) | Self::Collecting(_) | Self::Completing(_) => Vec::new(),
        }
    }

    fn offer_again(board: Board, offer: &CheckedOffer, why: &str) -> Self {
        let number = offer.offer().number.saturating_add(1);
        let registers = matches!(offer.offer().stage, Stage::Registers { .. });
        Self::AwaitingOffer(AwaitingOffer { board, registers, number, trouble: Some(why.to_owned()) })
    }

    fn troubled(self, why: &str) -> Self {
        let why = Some(why.to_owned());
        match self {
            Self::AwaitingOffer(phase) => Self::AwaitingOffer(AwaitingOffer { trouble: why, ..phase }),
            Self::AwaitingKeys(phase) => Self::AwaitingKeys(AwaitingKeys { trouble: why, ..phase }),
            other => other,
        }
    }

    /// The board.
    pub const fn board(&self) -> &Board {
        match self {
            Self::MakingKeys(MakingKeys { board })
            | Self::AwaitingOffer(AwaitingOffer { board, .. })
            | Self::Collecting(Collecting { board, .. })
            | Self::Ordering(Ordering { collected: Collecting { board, .. } })
            | Self::AwaitingKeys(AwaitingKeys { board, .. })
            | Self::Completing(Completing { board, .. })
            | Self::Founded(Founded { board, .. }) => board,
        }
    }

    fn board_mut(&mut self) -> &mut Board {
        match self {
            Self::MakingKeys(MakingKeys { board })
            | Self::AwaitingOffer(AwaitingOffer { board, .. })
            | Self::Collecting(Collecting { board, .. })
            | Self::Ordering(Ordering { collected: Collecting { board, .. } })
            | Self::AwaitingKeys(AwaitingKeys { board, .. })
            | Self::Completing(Completing { board, .. })
            | Self::Founded(Founded { board, .. }) => board,
        }
    }

    /// What the phase waits for, in a few words.
    pub const fn waiting(&self) -> &'static str {
        match self {
            Self::MakingKeys(_) => "the quorums' keys",
            Self::AwaitingOffer(_) => "the embassy's TPM",
            Self::Collecting(_) => "the officials' approvals",
            Self::Ordering(_) => "the embassy's TPM to do as ordered",
            Self::AwaitingKeys(_) => "the embassy's TPM to make its keys",
            Self::Completing(_) => "the completed charter and its signatures",
            Self::Founded(_) => "nothing: the charter is in force",
        }
    }

    /// The one function by which the state changes.
    fn take(mut self, post: &Post) -> Result<Turn, Unchanged> {
        let turn = match post {
            Post::Message { message, .. } => {
                if let Some(taken) = self.board_mut().take(message) {
                    match taken {
                        Ok(effect) => {
                            let mut outs = Vec::new();
                            let next = Self::settle(self, &mut outs);
                            Ok(Turn { next, taken: effect.taken, acts: effect.acts, outs })
                        }
                        Err(refused) => Err(Box::new((self, refused))),
                    }
                } else {
                    match (self, &**message) {
                        (Self::Collecting(phase), Message::Signed(signed)) => phase.said(signed),
                        (Self::Completing(phase), Message::Charter(charter)) => phase.charter(charter),
                        (Self::Founded(phase), Message::Charter(charter))
                            if charter.unverified().hash() == phase.charter.hash() =>
                        {
                            Ok(Turn::known(Self::Founded(phase)))
                        }
                        // An approval that comes while, or after, the TPM does what was approved: nothing is lost by it.
                        (Self::Ordering(phase), Message::Signed(signed)) => phase.late(signed),
                        (other, message) => {
                            let (what, waiting) = (message.what(), other.waiting());
                            Err(unchanged(other, Refusal::NotNow { what, waiting }))
                        }
                    }
                }
            }
            Post::Offer(offer) => self.offered(offer),
            Post::Ordered => self.ordered(),
            Post::Refused { places, why } => self.refused(places, why),
            Post::Result(result) => self.born(result),
        };
        turn.map(|mut turn| {
            if turn.taken == Taken::New {
                let board = turn.next.board_mut();
                board.posts = board.posts.saturating_add(1);
            }
            turn
        })
    }

    /// From making keys to the TPM, once every member has confirmed.
    fn settle(self, outs: &mut Vec<Out>) -> Self {
        match self {
            Self::MakingKeys(MakingKeys { board }) if board.has_keys() => {
                outs.push(Out::Offer { number: 1, registers: false });
                Self::AwaitingOffer(AwaitingOffer { board, registers: false, number: 1, trouble: None })
            }
            other => other,
        }
    }

    fn offered(self, offer: &ProvisioningOffer) -> Result<Turn, Unchanged> {
        let (board, number, registers) = match &self {
            Self::AwaitingOffer(AwaitingOffer { board, number, registers, .. }) => (board, *number, *registers),
            // On a board that is read again, an offer follows another without a word between: the sessions were lost.
            Self::Collecting(Collecting { board, offer, .. })
            | Self::Ordering(Ordering { collected: Collecting { board, offer, .. } }) => {
                let registers = matches!(offer.offer().stage, Stage::Registers { .. });
                (board, offer.offer().number.saturating_add(1), registers)
            }
            _ => {
                let waiting = self.waiting();
                return Err(unchanged(self, Refusal::NotNow { what: "an offer", waiting }));
            }
        };
        if offer.number != number || matches!(offer.stage, Stage::Registers { .. }) != registers {
            return Err(unchanged(self, Refusal::OtherOffer));
        }
        match offer.clone().check(board.ground()) {
            Ok(checked) => {
                let acts = vec![Act::GenesisOffered { number, offer: *checked.hash() }];
                let (board, offer) = (self.into_board(), Box::new(checked));
                let (approvals, objections) = (BTreeMap::new(), BTreeMap::new());
                let next = Self::Collecting(Collecting { board, offer, approvals, objections, trouble: None });
                Ok(Turn { next, taken: Taken::New, acts, outs: Vec::new() })
            }
            Err(refusal) => Err(unchanged(self, refusal.into())),
        }
    }

    fn into_board(self) -> Board {
        match self {
            Self::MakingKeys(MakingKeys { board })
            | Self::AwaitingOffer(AwaitingOffer { board, .. })
            | Self::Collecting(Collecting { board, .. })
            | Self::Ordering(Ordering { collected: Collecting { board, .. } })
            | Self::AwaitingKeys(AwaitingKeys { board, .. })
            | Self::Completing(Completing { board, .. })
            | Self::Founded(Founded { board, .. }) => board,
        }
    }

    fn ordered(self) -> Result<Turn, Unchanged> {
        let (registers, number, offer) = match &self {
            Self::AwaitingOffer(AwaitingOffer { registers, number, .. }) => (*registers, *number, None),
            Self::Collecting(Collecting { offer, .. })
            | Self::Ordering(Ordering { collected: Collecting { offer, .. } }) => {
                let registers = matches!(offer.offer().stage, Stage::Registers { .. });
                (registers, offer.offer().number.saturating_add(1), Some(*offer.hash()))
            }
            _ => {
                let waiting = self.waiting();
                return Err(unchanged(self, Refusal::NotNow { what: "the TPM's doing", waiting }));
            }
        };
        let (acts, board) = (vec![Act::GenesisOrdered { offer }], self.into_board());
        let next = if registers {
            Self::AwaitingKeys(AwaitingKeys { board, trouble: None })
        } else {
            Self::AwaitingOffer(AwaitingOffer { board, registers: true, number, trouble: None })
        };
        let outs = next.pending();
        Ok(Turn { next, taken: Taken::New, acts, outs })
    }

    fn refused(self, places: &[Position], why: &Reason) -> Result<Turn, Unchanged> {
        let Self::Ordering(Ordering { mut collected }) = self else {
            let waiting = self.waiting();
            return Err(unchanged(self, Refusal::NotNow { what: "a refusal by the TPM", waiting }));
        };
        places.iter().for_each(|place| {
            collected.approvals.remove(place);
        });
        collected.trouble = Some(why.to_string());
        let acts = vec![Act::GenesisNotOrdered { why: why.clone() }];
        Ok(Turn { next: Self::Collecting(collected), taken: Taken::New, acts, outs: Vec::new() })
    }

    fn born(self, result: &GenesisResult) -> Result<Turn, Unchanged> {
        let Self::AwaitingKeys(AwaitingKeys { board, trouble }) = self else {
            let waiting = self.waiting();
            return Err(unchanged(self, Refusal::NotNow { what: "a result", waiting }));
        };
        match result.clone().verify(board.charter()) {
            Ok(verified) if verified.machine().embassy == *board.embassy() => {
                let acts = vec![Act::GenesisBorn { result: Hash::of_bytes(&result.encode()) }];
                let result = Box::new(verified);
                let next = Self::Completing(Completing { board, result, candidates: Vec::new() });
                Ok(Turn { next, taken: Taken::New, acts, outs: Vec::new() })
            }
            Ok(_) => {
                let refusal = Refusal::OtherCharter("it is of another embassy");
                Err(unchanged(Self::AwaitingKeys(AwaitingKeys { board, trouble }), refusal))
            }
            Err(error) => Err(unchanged(Self::AwaitingKeys(AwaitingKeys { board, trouble }), error.into())),
        }
    }
}

fn quiet(next: Genesis) -> (Step, Reply) {
    (Step { next, posts: Vec::new(), entries: Vec::new(), outbox: Vec::new() }, Reply::Accepted)
}
