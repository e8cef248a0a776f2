//! A dataset is made at home, in a process of its own: once its record is signed, its seed is nowhere in that process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use chancery::protocol::{
    dataset::DatasetSeed,
    dataset_version::UnsignedVersion,
    ids::{DatasetName, DatasetVersion, OwnerName},
    wire::Document,
};
use rand_core::OsRng;

use super::support::{
    OWNER, World,
    memory::{Mappings, Needles},
};

const CHILD: &str = "CHANCERY_TEST_MAKES_A_DATASET";
/// What the seed is told with, so that telling it leaves no copy.
const MASK: u8 = 0xa5;
const PLANTED: &str = "the dataset's name";
const NAME: &str = "a-register-of-exactly-32-letters";

/// As `chancery dataset create` does it.
fn make(world: &World) -> (String, Vec<u8>) {
    let seed = DatasetSeed::random(&mut OsRng);
    let masked: String = seed.expose().iter().map(|byte| format!("{:02x}", byte ^ MASK)).collect();
    let (owner, name) = (OwnerName::new(OWNER).unwrap(), DatasetName::new(NAME).unwrap());
    let facts = world.facts();
    let unsigned = UnsignedVersion::create(&seed, owner, name, DatasetVersion::FIRST, facts.sealing_keys()).unwrap();
    drop(seed);
    (masked, unsigned.sign(&world.owner.signing).unwrap().encode())
}

fn child() {
    let world = World::new();
    let (masked, record) = make(&world);
    println!("\nmasked {masked}");
    std::io::stdout().flush().unwrap();
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).unwrap();
    assert!(!record.is_empty());
}

#[test]
fn nothing_of_a_seed_is_left_where_its_dataset_was_made() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "made::nothing_of_a_seed_is_left_where_its_dataset_was_made", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let masked = lines.by_ref().find_map(|line| line.strip_prefix("masked ").map(str::to_owned)).unwrap();
    let seed: Vec<u8> = hex::decode(masked).unwrap().iter().map(|byte| byte ^ MASK).collect();
    let mut needles = Needles::new();
    needles.exactly("the seed", &seed);
    needles.exactly(PLANTED, NAME.as_bytes());
    let searched = needles.in_process(child.id(), &Mappings::All);
    assert!(searched.has(PLANTED), "the search does not find what is there: {} bytes", searched.bytes);
    assert!(searched.secrets(PLANTED).is_empty(), "{:#?}", searched.secrets(PLANTED));
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
}
