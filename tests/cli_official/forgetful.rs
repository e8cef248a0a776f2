//! An official's machine that cannot write down what it has seen: then nothing is approved, and nothing leaves it.

use std::os::unix::fs::PermissionsExt;

use chancery::client::official::{Means, ReviewError, Reviewed};
use rustix::thread::CapabilitySet;

use super::{
    served::{Officials, Serve, hand_in},
    *,
};
use crate::support::{
    World,
    kernel::{ENOSPC, fsync, refusing, without},
};

/// Whatever happens to a directory: nobody may write in it, or the disk is full.
fn in_a_read_only_directory<R: Send>(directory: &Path, act: impl FnOnce() -> R + Send) -> R {
    let mode = |bits| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o555);
    // Root writes where it will, unless it has lost that right.
    let done = without(CapabilitySet::DAC_OVERRIDE, act);
    mode(0o755);
    done
}

fn on_a_full_disk<R: Send>(_: &Path, act: impl FnOnce() -> R + Send) -> R {
    refusing(fsync(), ENOSPC, act)
}

#[test]
fn without_a_memory_of_it_there_is_no_contribution() {
    let mut network = Network::new();
    let path = network.ready(0);
    let (offer, _, _) = network.offered();
    let memory = path.join("memory.bin");
    let mut directory = Directory::open(&path).unwrap();
    let keys = directory.keys(Means::Passphrase(secret(PASSPHRASE)));
    let aside = path.join("memory.aside");
    // Where a folder with something in it has the name, no file takes its place.
    let block = || {
        if memory.exists() {
            std::fs::rename(&memory, &aside).unwrap();
        }
        std::fs::create_dir_all(memory.join("in the way")).unwrap();
    };
    let unblock = || {
        std::fs::remove_dir_all(&memory).unwrap();
        if aside.exists() {
            std::fs::rename(&aside, &memory).unwrap();
        }
    };
    let cannot = |error: ReviewError| {
        assert!(matches!(error, ReviewError::Directory(_)), "{error}");
        assert!(error.to_string().contains("memory.bin"), "{error}");
    };
    let reset = |directory: &Directory| directory.memory().resets(offer.unverified().statement().embassy());

    // The points of the slots are noted before the offer is shown to anybody.
    block();
    cannot(Reviewed::of(&mut directory, &offer, now()).unwrap_err());
    unblock();
    assert_eq!(directory.memory().points().unwrap().iter().count(), 0, "what is not on the disk is not remembered");
    let reviewed = Reviewed::of(&mut directory, &offer, now()).unwrap();
    // And the counts of resets before a contribution is given out.
    block();
    cannot(reviewed.contribute(&mut directory, &keys).unwrap_err());
    unblock();
    assert_eq!(reset(&directory), None);
    reviewed.contribute(&mut directory, &keys).unwrap();
    assert_eq!(reset(&directory), Some(network.statement().acknowledged));
    drop(directory);
    let kept = Memory::decode(&std::fs::read(&memory).unwrap()).unwrap();
    assert_eq!(kept.points().unwrap().iter().count(), 2);
}

#[test]
fn on_a_full_disk_or_in_a_read_only_directory_no_approval_file_is_written() {
    let mut network = Network::new();
    let path = network.ready(0);
    let (_, _, words) = network.offered();
    let before = std::fs::read(path.join("memory.bin")).unwrap();
    let approve = || network.approve("anna", &words, &["--passphrase-fd", "0"]);
    for (ran, why) in [
        (in_a_read_only_directory(&path, approve), "Permission denied"),
        (on_a_full_disk(&path, approve), "No space left on device"),
    ] {
        let err = refused(&ran);
        assert!(err.contains("memory.bin") && err.contains(why), "{err}");
        assert!(!network.path("anna.approval").exists());
        assert_eq!(std::fs::read(path.join("memory.bin")).unwrap(), before);
        let left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
    fine(approve());
    assert!(network.path("anna.approval").exists());
}

#[test]
fn on_a_full_disk_or_in_a_read_only_directory_nothing_is_sent_to_the_embassy() {
    let world = World::new();
    let serve = Serve::start(world.site());
    hand_in(&world, &serve);
    let officials = Officials { world: &world, token: None };
    for index in 0..2 {
        officials.lay_out(index, &[&serve]);
    }
    let (id, words) = officials.open("anna", "read what the flood has left");
    let short = &id[..8];
    officials.until("anna", short, "collecting approvals");
    // Boris has looked, so all that the network tells is here, and the offer's points are noted.
    fine(officials.run("boris", &["review", short]));
    let path = world.folder.path().join("boris");
    let before = std::fs::read(path.join("memory.bin")).unwrap();
    let approve = || officials.run("boris", &["approve", short, "--yes-i-read", &words]);
    for (ran, why) in [
        (in_a_read_only_directory(&path, approve), "Permission denied"),
        (on_a_full_disk(&path, approve), "No space left on device"),
    ] {
        let err = refused(&ran);
        assert!(err.contains("memory.bin") && err.contains(why), "{err}");
        assert!(!ran.out.contains("Your approval is in"), "{}", ran.out);
        let status = officials.until("anna", short, "collecting approvals");
        assert!(status.contains("collecting approvals: 0 of 3"), "{status}");
        assert_eq!(std::fs::read(path.join("memory.bin")).unwrap(), before);
    }
    let said = fine(approve());
    assert!(said.contains("Your approval is in"), "{said}");
    assert_ne!(std::fs::read(path.join("memory.bin")).unwrap(), before);
}
