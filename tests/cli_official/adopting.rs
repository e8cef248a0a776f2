//! A new charter at the command line: brought, adopted by four of five, in the TPM; and the disk that is put back afterwards.

use chancery::{
    hardware::MachineTpm,
    protocol::{ids::CharterAt, statement::Adoption, tpm::approval::CommandHash},
    service::directory::STORE,
};

use super::*;
use crate::{
    served::{Officials, Serve},
    support::{Wish, World},
};

/// What `open --adopt` says, and the ceremony's id and words.
fn open(officials: &Officials<'_>, who: &str) -> (String, String, String) {
    let arguments = ["open", "--embassy", "luxembourg", "--adopt", "--purpose", "oslo joins the network", "--yes"];
    let said = fine(officials.run(who, &arguments));
    let after = |head: &str| said.lines().find_map(|line| line.strip_prefix(head)).unwrap().trim().to_owned();
    let (id, words) = (after("ceremony "), after("words    "));
    (said, id, words)
}

fn says(said: &str, expected: &[&str]) {
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not in\n{said}");
    }
}

#[test]
fn a_charter_by_which_an_embassy_joins_is_brought_adopted_and_outlives_an_old_disk() {
    let mut world = World::of(&Wish { amend: Some(4), ..Wish::default() });
    let third = world.amended(|parts| {
        let mut oslo = parts.embassies[0].clone();
        oslo.name = EmbassyName::new("oslo").unwrap();
        let handle = |at: u32| NvHandle::new(0x0180_0020 + at).unwrap();
        oslo.handles = CustodyHandles { counter: handle(0), register: handle(1), charter_pin: handle(2) };
        parts.embassies.push(oslo);
    });
    world.succeed(&third);
    let serve = Serve::start(world.site());
    let officials = Officials { world: &world, token: None };
    (0..5).for_each(|index| officials.lay_out(index, &[&serve]));
    let (site, store) = (&world.site().directory, world.site().directory.join(STORE));

    says(&serve.said(), &["charter version 2 is in force, and the TPM was told of version 1"]);
    // Everybody sees that the completed charter is in force and not adopted.
    let said = fine(officials.run("anna", &["status"]));
    says(&said, &["version 1, AND VERSION 2 IS IN FORCE", "`chancery official open --embassy luxembourg --adopt"]);
    // Home gave anna the next one; the embassy gets it from her.
    officials.write("third.charter", &third.encode());
    fine(run_with(officials.folder(), PASSPHRASE, &["connect", "--dir", "anna", "--charter", "third.charter"], &[]));
    let (said, first, _) = open(&officials, "anna");
    says(
        &said,
        &[
            "luxembourg took charter version 3 from you",
            "the TPM was told of      charter version 1",
            "it is to be told of      charter version 3, in force here",
            "what version 3 changes of version 1:",
            "+ oslo  class firmware",
            "adopts                   charter version 3",
            &format!("its hash                 {}", world.charter.hash()),
        ],
    );
    officials.until("boris", &first[..8], "collecting approvals: 0 of 4");
    // One stop ends it, as any ceremony.
    let stop = ["stop", &first[..8], "--reason", "read the charter to us first", "--yes"];
    says(&fine(officials.run("eva", &stop)), &["It is in (taken)", "stopped by eva"]);

    let (_, id, words) = open(&officials, "boris");
    let short = &id[..8];
    officials.until("anna", short, "collecting approvals: 0 of 4. WAITS FOR YOU");
    let said = fine(officials.run("anna", &["inbox"]));
    says(&said, &["embassy luxembourg is to adopt charter version 3: oslo joins the network"]);
    let said = fine(officials.run("anna", &["review", short, "--offer", "offer.bin"]));
    says(
        &said,
        &[
            "WHAT IS ADOPTED",
            "+ oslo  class firmware",
            "this embassy starts with no charter before version 3 any more",
            "charter version 3 is the one in force here, and follows version 1 in an unbroken chain",
            &format!("read aloud               {words}"),
        ],
    );
    assert!(!said.contains("slots"), "{said}");
    // What it is, without any of it being believed.
    let sheet = Command::new(env!("CARGO_BIN_EXE_chancery"))
        .args(["inspect", "offer.bin"])
        .current_dir(officials.folder())
        .output()
        .unwrap();
    says(&String::from_utf8(sheet.stdout).unwrap(), &["none: nothing is sealed", "pin for charter version 3"]);

    // David has no network, and an older charter than the others: his machine signs nothing.
    let charters = ["000001", "000002"].map(|version| site.join(format!("charters/{version}.charter")));
    let [one, two] = charters.each_ref().map(|path| path.to_str().unwrap());
    let connect = ["connect", "--dir", "david", "--charter", one, "--charter", two];
    fine(run_with(officials.folder(), PASSPHRASE, &connect, &[]));
    let offline = ["approve", "--offline", "offer.bin", "--out", "david.approval", "--yes-i-read", &words];
    let old = officials.run("david", &offline);
    says(refused(&old), &["adopts charter version 3", "in force here is version 2", "Do not contribute"]);
    fine(run_with(officials.folder(), PASSPHRASE, &["connect", "--dir", "david", "--charter", "third.charter"], &[]));
    says(&fine(officials.run("david", &offline)), &["approval written to david.approval"]);
    // No share is needed: what is adopted opens nothing.
    std::fs::remove_file(officials.folder().join("clara/share-unseal-1.key")).unwrap();
    says(&fine(officials.approve("clara", short, &words)), &["Your approval is in (accepted)"]);
    says(
        &fine(officials.run("anna", &["carry", "david.approval"])),
        &["luxembourg took an approval of official 4 (accepted)"],
    );
    // Three would be enough to unseal.
    says(&fine(officials.approve("eva", short, &words)), &["collecting approvals: 3 of 4"]);
    let deny = ["deny", short, "--reason", "not on a Tuesday", "--yes"];
    says(&fine(officials.run("boris", &deny)), &["boris (YOU) (2 denials end it)"]);
    says(&fine(officials.approve("anna", short, &words)), &["Your approval is in (accepted)"]);
    let said = officials.until("anna", short, "outcome");
    says(&said, &["the charter is adopted: the TPM holds its hash"]);
    says(&fine(officials.run("boris", &["watch", short])), &["the charter is adopted"]);
    says(&fine(officials.run("boris", &["status"])), &["charter pin              version 3: adopted"]);
    let twice = ["open", "--embassy", "luxembourg", "--adopt", "--purpose", "once more", "--yes"];
    says(refused(&officials.run("boris", &twice)), &["charter version 3 is adopted at luxembourg already"]);
    assert!(!serve.said().contains("panicked"), "{}", serve.said());
    let address = serve.address;
    drop(serve);
    let tpm = world.site().tpm(&world.facts());
    assert_eq!(tpm.charter_pin(), Ok(world.charter.hash()));
    drop(tpm);

    // A restart passes: the store has the charter, and nothing is left to adopt.
    let serve = Serve::at(world.site(), address);
    assert!(!serve.said().contains("the TPM was told of"), "{}", serve.said());
    drop(serve);
    // The host puts back the disk of before: the directory never had the third charter, and the store is gone.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", store.display()));
    }
    let said = Serve::refused(world.site());
    let pin = world.charter.hash().to_string();
    says(&said, &[&pin, "the newest here is version 2", "put back to an older state", "tell the officials"]);
    // With the charters in force it serves again.
    std::fs::write(site.join("charters/000003.charter"), third.encode()).unwrap();
    drop(Serve::at(world.site(), address));
}

/// An offer to adopt a charter, by an embassy that may lie; gives the statement's words.
fn offered(network: &Network, charter: CharterAt, pinned: Hash, signer: &Key) -> String {
    let mode = Mode::Adoption(Adoption { charter, pinned });
    let signed = network.signed(StatementParts { mode, datasets: Vec::new(), ..network.statement() });
    let opening = Opening { subject: charter.hash, nonce: TpmNonce::from_bytes(&[0xc5; 32]).unwrap() };
    let offer = Offer::new(signed, 1, None, vec![opening]).unwrap();
    let offer = SignedOffer::sign(offer, &signer.signing).unwrap();
    network.write("offer.bin", &offer.encode());
    offer.unverified().statement().words().to_string()
}

#[test]
fn an_embassy_that_lies_about_charters_gets_no_signature() {
    let mut network = Network::new();
    network.ready(0);
    let (in_force, founding) = (network.charter.charter().at(), network.charter.id().0);
    let forged = CharterAt { version: 3, hash: Hash::of_bytes(b"the host's own charter") };
    let other = CharterAt { hash: forged.hash, ..in_force };
    for (charter, pinned, expected) in [
        (forged, founding, "adopts charter version 3"),
        (other, founding, "in force here is version 2"),
        (CharterAt { version: 1, hash: founding }, in_force.hash, "adopts charter version 1"),
        (in_force, forged.hash, "no charter of this network that is known here is that one"),
    ] {
        let words = offered(&network, charter, pinned, &network.embassy);
        approve_refused(&network, &words, &[expected, "Nothing was signed"]);
    }
    let words = offered(&network, in_force, founding, &Key::new());
    approve_refused(&network, &words, &["not signed by the identity key of embassy luxembourg"]);

    // The true one: what is signed is the write that this machine computed, and nothing is sealed.
    let words = offered(&network, in_force, founding, &network.embassy);
    let said = fine(network.approve("anna", &words, &["--passphrase-fd", "0"]));
    says(&said, &["it is to be told of      charter version 2", "+ custody, generation 1"]);
    let carried = Carried::decode(&std::fs::read(network.path("anna.approval")).unwrap()).unwrap();
    let Load::Approval(contribution) = carried.load else { panic!("no approval") };
    let pin = network.facts().custody().charter_pin.public.name();
    let write = CommandHash::nv_write(&pin, network.charter.hash().as_bytes()).unwrap();
    assert_eq!(contribution.approvals().iter().map(|it| it.command()).collect::<Vec<_>>(), [write.as_bytes()]);
    assert!(!contribution.is_sealed());
}
