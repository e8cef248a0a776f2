//! The embassy machine in the hands of the host country: its TPM is driven past `chancery serve`, with the state on its disk.

use std::time::Duration;

use anyhow::{Context, bail};
use chancery::{
    hardware::{
        Clock, CustodyTpm, EmbassyKeys, EmbassyTpm, Foundation, HierarchyAuth, HierarchyAuths, MachineTpm, Order,
        Outcome, ParkedCommand, TpmAddress,
    },
    protocol::{
        certificate::UnixTime,
        contribution::{CheckedOffer, Contribution, Review},
        dataset::DatasetSeed,
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        gathering::Gathering,
        group::Point,
        hybrid::HybridSecretKey,
        ids::AgentName,
        offer::{Offer, Opening, SignedOffer},
        partial::PreparedQuorum,
        secret::{Secret, SecretVec, SharedPoint},
        slot::{SealedFor, SeenPoints},
        statement::{DatasetAt, LeaseTerms, Mode, Purpose, Resets, SignedStatement, Statement, StatementParts},
        tpm::custody::CustodyPlan,
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Machine};
use p256::ecdsa::Signature;
use rand_core::OsRng;

use crate::people::{EXPIRY_MAX_SECONDS, Person, Room};

/// The embassy's machine with what stands on its disk.
pub struct Embassy {
    pub machine: Machine,
    pub room: Room,
    pub tpm: EmbassyTpm,
}

/// The time by this machine's clock.
pub fn now() -> anyhow::Result<UnixTime> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(UnixTime(i64::try_from(since.as_secs())?))
}

/// A version as a statement names it.
pub fn at(version: &VerifiedVersion) -> DatasetAt {
    let description = version.description();
    DatasetAt { dataset: description.dataset.clone(), version: description.version }
}

/// How to reach a machine's TPM, with a deadline short enough for a demonstration.
pub fn address(machine: &Machine) -> TpmAddress {
    let mut address = TpmAddress::new(&machine.tcti());
    address.limits.command = Duration::from_secs(5);
    address
}

/// Home's first step on a machine that is not this embassy's: storage root and attestation key, other authorizations.
pub fn found(machine: &Machine) -> anyhow::Result<Foundation> {
    let delivered = HierarchyAuths {
        owner: HierarchyAuth::new(SecretVec::new(machine.owner_authorization().to_vec()))?,
        endorsement: HierarchyAuth::empty(),
        lockout: HierarchyAuth::new(SecretVec::new(machine.lockout_authorization().to_vec()))?,
    };
    Ok(EmbassyTpm::found(&address(machine), &delivered, &HierarchyAuths::random(&mut OsRng))?)
}

/// Has the quorum approve TPM commands and runs them. `describe` is what each official's own machine computes.
pub fn amend(
    tpm: &EmbassyTpm,
    officials: &[&Person],
    orders: &[Order],
    describe: &[chancery::protocol::tpm::approval::CommandHash],
) -> anyhow::Result<()> {
    let mut parked = tpm.begin(orders)?;
    for (command, expected) in parked.iter_mut().zip(describe) {
        for official in officials {
            // The official signs for the command computed at home; the embassy contributes the nonce alone.
            let request =
                chancery::protocol::tpm::approval::ApprovalRequest { command: *expected, ..*command.request() };
            command.approve(official.approve(&request)?, EXPIRY_MAX_SECONDS)?;
        }
        match tpm.finish(command)? {
            Outcome::Done => {}
            Outcome::Shared(_) => bail!("an amend gave a decapsulation"),
        }
    }
    Ok(())
}

/// One ceremony as the embassy sees it.
pub struct Ceremony {
    pub signed: SignedOffer,
    pub gathering: Gathering,
    pub parked: Vec<ParkedCommand>,
    pub key: HybridSecretKey,
}

impl Embassy {
    pub fn open(machine: Machine, room: Room, facts: &CustodyFacts) -> anyhow::Result<Self> {
        let keys = EmbassyKeys::decode(&room.read("keys.bin")?)?;
        let tpm = EmbassyTpm::open_chartered(&address(&machine), facts, &keys)?;
        Ok(Self { machine, room, tpm })
    }

    /// What an official opens: a lease of these versions for one agent.
    pub fn statement(
        &self,
        facts: &CustodyFacts,
        versions: &[VerifiedVersion],
        purpose: &str,
        opener: &Person,
    ) -> anyhow::Result<SignedStatement> {
        let clock = self.clock()?;
        let now = now()?;
        let statement = Statement::new(StatementParts {
            charter: facts.charter(),
            embassy: facts.embassy().clone(),
            generation: facts.generation(),
            purpose: Purpose::new(purpose)?,
            datasets: versions.iter().map(at).collect(),
            mode: Mode::Lease(LeaseTerms {
                agents: vec![AgentName::new("replicator")?],
                duration_seconds: 3600,
                unwraps: 1000,
            }),
            opener: opener.name.clone(),
            opened_at: now,
            expires_at: UnixTime(now.0 + 3600),
            acknowledged: Resets { reset_count: clock.reset_count, restart_count: clock.restart_count },
            nonce: *Secret::random(&mut OsRng).expose(),
        })?;
        Ok(SignedStatement::sign(statement, &opener.identity)?)
    }

    /// Makes an offer: one parked, authenticated TPM session per dataset, a one-time key, an offer signed by the TPM.
    pub fn offer(
        &self,
        facts: &CustodyFacts,
        quorum: &PreparedQuorum,
        versions: &[VerifiedVersion],
        statement: &SignedStatement,
        attempt: u32,
    ) -> anyhow::Result<Ceremony> {
        let here = SealedFor::Embassy(facts.embassy().clone());
        let slots = versions
            .iter()
            .map(|version| version.slot(&here).context("this version has no slot for the embassy"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let orders: Vec<Order> = slots.iter().map(|slot| Order::Decapsulate(*slot.point())).collect();
        let parked = self.tpm.begin(&orders)?;
        let openings = slots
            .iter()
            .zip(&parked)
            .map(|(slot, command)| Opening { subject: slot.id(), nonce: command.request().nonce })
            .collect();
        let key = HybridSecretKey::random(&mut OsRng);
        let offer = Offer::new(statement.clone(), attempt, Some(key.public().clone()), openings)?;
        let signature = Signature::from_slice(&self.tpm.sign_as_embassy(offer.hash().as_bytes())?)?;
        let signed = SignedOffer::new(offer, signature);
        let review = Review { facts, versions, now: now()?, recipient: None };
        let checked = CheckedOffer::check(&signed, &review, &mut SeenPoints::new())?;
        let gathering = Gathering::new(checked, facts, quorum)?;
        Ok(Ceremony { signed, gathering, parked, key })
    }

    pub fn clock(&self) -> anyhow::Result<Clock> {
        Ok(self.tpm.clock()?)
    }

    /// The TPM's half for one opening of a quorate ceremony.
    pub fn decapsulate(
        &self,
        command: &mut ParkedCommand,
        approvals: &[chancery::protocol::tpm::approval::TpmApproval],
    ) -> anyhow::Result<SharedPoint> {
        for approval in approvals {
            command.approve(approval.clone(), EXPIRY_MAX_SECONDS)?;
        }
        match self.tpm.finish(command)? {
            Outcome::Shared(z_t) => Ok(z_t),
            Outcome::Done => bail!("the TPM ran another command"),
        }
    }
}

/// What a finished ceremony gave; kept for the search of the bus at the end.
pub struct Opened {
    pub seeds: Vec<DatasetSeed>,
    pub z_t: Vec<Secret<32>>,
}

impl Ceremony {
    pub fn receive(
        &mut self,
        contribution: &Contribution,
    ) -> Result<chancery::protocol::partial::Receipt, chancery::protocol::gathering::Refusal> {
        self.gathering.receive(contribution, &self.key)
    }

    /// At k: the TPM runs its policy, the slots open, every slot of each version is derived again and compared.
    pub fn open(&mut self, embassy: &Embassy, versions: &[VerifiedVersion]) -> anyhow::Result<Opened> {
        let quorate = self.gathering.quorate()?;
        let mut opened = Opened { seeds: Vec::new(), z_t: Vec::new() };
        for ((opening, command), version) in quorate.into_openings().into_iter().zip(&mut self.parked).zip(versions) {
            let z_t = embassy.decapsulate(command, opening.approvals())?;
            opened.z_t.push(z_t.x());
            opened.seeds.push(opening.open(&z_t, version)?.into_seed());
        }
        Ok(opened)
    }
}

/// The platform register's content for a boot profile, as officials' machines compute it from the values they are shown.
pub fn approved(
    plan: &CustodyPlan,
    profile: &BootProfile,
) -> anyhow::Result<chancery::protocol::tpm::pcr::RegisterContent> {
    let expected = profile.expected_pcrs();
    let values = plan.platform.pcrs().map(|pcr| (pcr, expected.sha256[usize::from(pcr)])).collect();
    Ok(chancery::protocol::tpm::pcr::RegisterContent::of(plan.platform, &values)?)
}

/// The point whose decapsulation is asked in tests of the host's own driver: nobody's slot.
pub fn nobodys_point() -> Point {
    Point::mul_generator(chancery::protocol::secret::SecretScalar::random(&mut OsRng).expose())
}
