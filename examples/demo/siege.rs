//! The host country has the machine, the disk, the bus, and officials that it coerced; chancery's own programs are stopped.
//! It tries everything that it can think of, and each attempt says what refused it.

use anyhow::Context;
use chancery::{
    client::official::Directory,
    hardware::{EmbassyKeys, MachineTpm, Order},
    protocol::{
        dataset_version::VerifiedVersion,
        facts::CustodyFacts,
        group::lagrange_at_zero,
        ids::{DatasetName, EmbassyName},
        partial::PreparedQuorum,
        quorum::Position,
        secret::SecretScalar,
        slot::SealedFor,
        tpm::approval::{CommandHash, TpmApproval},
        wire::Document,
    },
};
use hsm_sim::{BootProfile, Machine, Rack};

use crate::{
    embassy::{self, Embassy},
    host,
    narrator::Narrator,
    network::Network,
    people::{Person, Room},
};

/// How many attempts there are.
pub const ATTEMPTS: u32 = 13;
/// Steps of the story that lie in here.
pub const STEPS: u32 = 2;

/// What the host country has got hold of.
pub struct Spoils<'a> {
    pub network: &'a Network,
    pub rack: &'a Rack,
    pub machine: Machine,
    pub embassy: &'a str,
    /// Approvals of the last ceremony, as they stood on the embassy's disk.
    pub recorded: Vec<TpmApproval>,
    /// What home alone keeps, to look for on the bus.
    pub authorizations: Vec<(&'static str, Vec<u8>)>,
}

/// Everything that it tries.
pub fn tries(tell: &mut Narrator, spoils: Spoils<'_>) -> anyhow::Result<()> {
    let Spoils { network, rack, machine, embassy, recorded, authorizations } = spoils;
    tell.chapter("The host country tries: the services are stopped, and three officials gave their keys away");
    let profile = BootProfile::default();
    let embassy_name = EmbassyName::new(embassy)?;
    let official = Directory::open(&network.room("anna"))?;
    let facts = official.facts(&embassy_name)?;
    let (founding, versions) = (official.charters()?, official.datasets()?);
    let founding = founding.first().context("a founding charter")?;
    drop(official);
    tell.attempt("The disk put back to the charter before, which allowed leases", || {
        host::old_disk(network, embassy, &machine.tcti())
    });
    let of = |name: &str| -> anyhow::Result<VerifiedVersion> {
        let dataset = DatasetName::new(name)?;
        versions.iter().find(|version| version.description().dataset == dataset).cloned().context("a dataset")
    };
    let (land, police) = (of("land-register")?, of("police-files")?);
    let mut people = ["anna", "boris", "clara"]
        .iter()
        .map(|name| Person::coerced(&network.room(name), &facts))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let disk = Room::new(&network.room(embassy));
    let keys = EmbassyKeys::decode(&disk.read("keys.bin")?)?;
    let mut embassy = Embassy::open(machine, disk, &facts)?;
    let quorum = PreparedQuorum::new(&facts.unseal().key);
    let wanted = [land.clone()];
    let purpose = "An opening that the host country forces.";

    // What there is to look for on the bus later on.
    let statement = embassy.statement(&facts, &wanted, purpose, &people[0])?;
    let mut forced = embassy.offer(&facts, &quorum, &wanted, &statement, 1)?;
    let opened =
        tell.step("(control) three whole officials and the approved machine do open, past all programs", || {
            for person in &mut people {
                let contribution = person.review_and_consent(&forced.signed, &facts, &wanted)?;
                forced.receive(&contribution)?;
            }
            Ok((forced.open(&embassy, &wanted)?, "what is refused below lacks something".to_owned()))
        })?;

    let here = SealedFor::Embassy(embassy_name);
    let point = *land.slot(&here).context("a slot")?.point();
    let other_point = *police.slot(&here).context("a slot")?.point();
    let driver = host::Driver::new(&embassy, &keys, &facts);
    tell.step("(control) and its own driver of raw commands does get a half so", || {
        let half = host::control(&driver, &people, &facts, &embassy::nobodys_point())?;
        Ok(((), format!("a half of {} bytes, of a point that is nobody's slot", half.len())))
    })?;
    let statement = embassy.statement(&facts, &wanted, purpose, &people[0])?;
    let mut gathering = embassy.offer(&facts, &quorum, &wanted, &statement, 1)?;
    for person in people.iter_mut().take(2) {
        let contribution = person.review_and_consent(&gathering.signed, &facts, &wanted)?;
        gathering.receive(&contribution)?;
    }
    let again = people[0].review_and_consent(&gathering.signed, &facts, &wanted)?;
    tell.attempt("Two officials only", || host::two_officials(&driver, &people, &facts, &point, &gathering));
    tell.attempt("The same official twice", || {
        host::one_twice(&driver, &people, &facts, &point, &mut gathering, &again)
    });
    tell.attempt("Approvals replayed from the last ceremony", || host::replayed(&driver, &embassy, &recorded, &point));
    tell.attempt("Approvals moved to another point", || {
        host::moved_to_another_point(&driver, &people, &facts, &point, &other_point)
    });
    tell.attempt("One official's key on two rungs", || host::key_on_two_rungs(&facts, founding, facts.plan()));
    tell.attempt("The bus puts its own session's nonce into the offer", || host::own_nonce(&embassy, &point));
    tell.attempt("One dataset's point shown under another dataset's name", || {
        host::relabelled(&embassy, &mut people[2], &facts, &police, &land, &gathering)
    });
    let other_kernel = profile.clone().with_kernel(b"a kernel of the host's");
    let hosts_content = embassy::approved(facts.plan(), &other_kernel)?;
    tell.attempt("The register written without the quorum", || {
        host::register_without_quorum(&embassy, &people, &facts, hosts_content.as_bytes())
    });
    tell.attempt("Another kernel booted", || {
        host::another_kernel(&mut embassy, &people, &facts, &keys, &point, &other_kernel)
    });
    embassy.machine.reboot(&profile)?;
    let mut other = rack.machine("another")?;
    other.power_on(&profile)?;
    embassy::found(&other)?;
    tell.attempt("The disk's state on another TPM", || host::another_tpm(&other, &facts, &keys));

    let roll_seed = embassy.tpm.roll_seed()?;
    let backup = embassy.room.read("keys.bin")?;
    let shares_of_w = shares_of_w(&people, &facts, &land)?;
    tell.attempt("Approvals of an earlier generation, with T's old blob restored from a backup", || {
        let quorum: Vec<&Person> = people.iter().collect();
        let counter = facts.custody().counter.public.name();
        embassy::amend(&embassy.tpm, &quorum, &[Order::MoveGeneration], &[CommandHash::nv_increment(&counter)])?;
        host::earlier_generation(&embassy, &people, &facts, &backup, &point)
    });

    let places: Vec<Position> = shares_of_w.iter().map(|(position, _)| *position).collect();
    let mut w = p256::Scalar::ZERO;
    for (position, share) in &shares_of_w {
        w += lagrange_at_zero(*position, &places).context("places")? * **share.expose();
    }
    let mut secrets = vec![
        ("Z_T", opened.z_t[0].expose().to_vec()),
        ("w", w.to_bytes().to_vec()),
        ("the roll seed", roll_seed.expose().to_vec()),
        ("the dataset seed", opened.seeds[0].expose().to_vec()),
    ];
    secrets.extend(authorizations);
    let known = ("the slot's point, which is public", point.xy().0.to_vec());
    tell.attempt("Everything recorded on the bus, searched for the secrets", || {
        host::search_the_bus(embassy.machine.bus(), &secrets, &known)
    });
    Ok(())
}

fn shares_of_w(
    people: &[Person],
    facts: &CustodyFacts,
    version: &VerifiedVersion,
) -> anyhow::Result<Vec<(Position, SecretScalar)>> {
    let slot = version.slot(&SealedFor::Embassy(facts.embassy().clone())).context("a slot")?;
    people
        .iter()
        .map(|person| {
            let share = slot.open_share(person.position, &person.hybrid)?.to_bytes();
            Ok((person.position, SecretScalar::from_bytes(&share).context("a share of w")?))
        })
        .collect()
}
