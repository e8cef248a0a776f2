//! A genesis as an embassy serves it, in this process: by the driver of all ceremonies, on a store that fails, with a TPM that
//! takes its time, beside another process that writes into the same store.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use chancery::{
    keys::{
        MemorySigner,
        issue::{self, IssuerName},
    },
    protocol::{
        ceremony::genesis::{
            Board, Event, Genesis, Message, Post, complete,
            participant::{Advice, Do},
        },
        certificate::{Identity, Role, TrustDomain, UnixTime},
        charter::{SignedCharter, Signer},
        ids::{EmbassyName, SubjectName},
        roll::{Act, Entry},
        secret::{Secret, SecretScalar},
        tpm::approval::TpmApproval,
        wire::Document,
    },
    service::{
        directory::Directory,
        genesis::{Founding, FoundingParts, Provisioning},
        policy::Policy,
        trust::{InForce, Trust},
    },
    store::{Batch, Call, Fault, Faulty, Key, Kind, MAX_ROWS, MemoryStore, Put, Store},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use crate::{
    people::{EMBASSIES, Network, Person},
    tpm::SoftTpm,
};

const NOW: UnixTime = UnixTime(1_800_000_000);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than a look may take, whatever happens.
const LOOK: Duration = Duration::from_secs(10);

type Hook = Box<dyn Fn(Call<'_>) -> Option<Fault> + Send + Sync>;
type Disk = Arc<Faulty<MemoryStore, Hook>>;

/// A TPM that does what is ordered when it is let.
struct Slow {
    tpm: SoftTpm,
    /// Where it waits before the order of that number, from 1.
    waits: Option<(usize, mpsc::Receiver<()>)>,
    orders: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
}

impl Provisioning for Slow {
    fn is_stale(&self) -> bool {
        false
    }
    fn offer(&mut self, number: u32, registers: bool) -> Event {
        self.tpm.offer(number, registers)
    }
    fn order(&mut self, approvals: &[Vec<TpmApproval>]) -> Event {
        let order = self.orders.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((at, let_go)) = &self.waits
            && *at == order
        {
            let_go.recv().unwrap();
        }
        self.tpm.order(approvals, false, false)
    }
    fn make_keys(&mut self, board: &Board) -> Event {
        Event::Born(Box::new(self.tpm.make_keys(board)))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

struct House {
    founding: Founding,
    disk: Disk,
    orders: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
    folder: tempfile::TempDir,
}

/// Home's certificate and an empty list, under the key that the charter names.
fn trust(network: &Network) -> Arc<InForce> {
    let rng = &mut rand_core::OsRng;
    let secret = SecretScalar::from_bytes(&Secret::from_slice(&network.home.to_bytes()).unwrap()).unwrap();
    let signer = MemorySigner::new(&secret);
    let parts = network.founding.charter().parts();
    let identity = Identity {
        trust_domain: TrustDomain::new("registers.example").unwrap(),
        role: Role::Home,
        name: SubjectName::new("registrar").unwrap(),
    };
    let name = IssuerName { country: parts.country, identity: identity.clone() };
    let (from, until) = (UnixTime(NOW.0 - 3600), UnixTime(NOW.0 + 86400));
    let request = issue::Request { identity, key: parts.home, not_before: from, not_after: until, places: Vec::new() };
    let root = issue::certificate(&name, &signer, &request, rng).unwrap();
    let list = issue::revocation_list(&name, &signer, 1, &[], from, until).unwrap();
    Arc::new(InForce::new(Trust::new(network.founding.clone(), &root, &list).unwrap()))
}

fn embassy() -> EmbassyName {
    EmbassyName::new(EMBASSIES[0]).unwrap()
}

impl House {
    async fn new(network: &Network, hook: Hook, waits: Option<(usize, mpsc::Receiver<()>)>) -> Self {
        let disk: Disk = Arc::new(Faulty::new(MemoryStore::new(), hook));
        let (orders, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let tpm = SoftTpm::new(network, &embassy());
        let machine = Slow { tpm, waits, orders: Arc::clone(&orders), gone: Arc::clone(&gone) };
        let folder = tempfile::Builder::new().prefix("chancery-served-").tempdir().unwrap();
        std::fs::create_dir(folder.path().join("charters")).unwrap();
        let founding = Founding::open(FoundingParts {
            chain: vec![network.founding.clone()],
            embassy: embassy(),
            trust: trust(network),
            clock: Arc::new(|| NOW),
            store: Arc::<Faulty<MemoryStore, Hook>>::clone(&disk),
            policy: Policy::embedded().unwrap(),
            machine: Box::new(machine),
            directory: Directory::new(folder.path()),
        })
        .await
        .unwrap();
        Self { founding, disk, orders, gone, folder }
    }

    /// The board, as an official's machine reads it for itself.
    async fn board(&self, network: &Network) -> Genesis {
        let looked = tokio::time::timeout(LOOK, self.founding.posts(0, usize::MAX)).await;
        let (posts, size) = looked.expect("a look is answered, whatever the TPM does");
        assert_eq!(u64::try_from(posts.len()).unwrap(), size);
        let posts: Vec<Post> = posts.iter().filter_map(|post| Post::decode(post).ok()).collect();
        Genesis::new(network.founding.clone(), &embassy()).unwrap().follow(&posts).0
    }

    async fn say(&self, person: &Person, message: Message) {
        let what = message.what();
        // What was overtaken meanwhile is refused, and the board tells how it goes on.
        if let Err(problem) = self.founding.hear(person.name.clone(), message).await {
            assert!(["late", "refused", "busy"].contains(&problem.code().as_str()), "{what}: {problem:?}");
        }
    }

    /// One look of one official's machine, with all that follows from it.
    async fn look(&self, network: &Network, person: &mut Person, rng: &mut ChaCha20Rng) {
        let genesis = self.board(network).await;
        let (acts, advice) = person.advance(&genesis, rng);
        for act in acts {
            match act {
                Do::Save(journal) => person.disk.journal = journal.encode(),
                Do::Keep(kept) => {
                    let bytes = (kept.share.to_bytes().expose().to_vec(), kept.recovery.encode());
                    person.disk.kept.insert(kept.kind, bytes);
                }
                Do::Send(message) => self.say(person, message).await,
                Do::SendCopy(kind) => {
                    let copy = Document::decode(&person.disk.kept[&kind].1).unwrap();
                    self.say(person, Message::Recovery(kind, Box::new(copy))).await;
                }
            }
        }
        match advice {
            Advice::Approve(offer) => self.say(person, person.approve(&genesis, &offer)).await,
            Advice::Sign(signature) => self.say(person, person.sign(&genesis, &signature.candidate)).await,
            Advice::Stuck { why, .. } => panic!("{}: {why}", person.name),
            Advice::Wait | Advice::Founded => {}
        }
        // Home's part, through the first official's hands.
        if let Genesis::Completing(phase) = &genesis
            && phase.candidates().is_empty()
        {
            let charter = complete(&network.founding, &[phase.result().clone()]).unwrap();
            let mut signed = SignedCharter::unsigned(charter);
            signed.sign(Signer::Home, &network.home).unwrap();
            self.say(person, Message::Charter(Box::new(signed))).await;
        }
    }

    /// Everybody looks again and again, until something has come to pass.
    async fn until(&self, network: &mut Network, what: &str, rng: &mut ChaCha20Rng, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "{what} did not come to pass: {:?}", self.founding.view().await);
            for index in 0..network.people.len() {
                if is_so(self) {
                    return;
                }
                let mut person = network.take(index);
                self.look(network, &mut person, rng).await;
                network.put(index, person);
            }
        }
    }

    fn is_founded(&self) -> bool {
        *self.founding.founded().borrow()
    }

    async fn acts(&self) -> Vec<Act> {
        let (mut acts, mut from) = (Vec::new(), 0);
        loop {
            let rows = self.disk.inner().roll(from, MAX_ROWS).await.unwrap();
            let Some(last) = rows.last() else { return acts };
            from = last.sequence + 1;
            acts.extend(rows.iter().map(|row| Entry::decode(&row.bytes).unwrap().act));
        }
    }

    /// What was founded stands everywhere, and each act once in the roll.
    async fn check(&self, network: &Network) {
        let charter = self.founding.charter();
        assert_eq!(charter.charter().parts().version, 2);
        assert_eq!(self.founding.chain().len(), 2);
        let key = self.disk.inner().list(Kind::Charter, None, MAX_ROWS).await.unwrap();
        assert_eq!(key.iter().map(|(_, record)| &record.bytes).collect::<Vec<_>>(), [&charter.signed().encode()]);
        let file = std::fs::read(self.folder.path().join("charters/000002.charter")).unwrap();
        assert_eq!(file, charter.signed().encode());
        let Genesis::Founded(founded) = self.board(network).await else { panic!("the board says otherwise") };
        assert_eq!(founded.charter().hash(), charter.hash());
        let acts = self.acts().await;
        let count = |is: fn(&Act) -> bool| acts.iter().filter(|act| is(act)).count();
        assert_eq!(count(|act| matches!(act, Act::GenesisBorn { .. })), 1);
        assert_eq!(count(|act| matches!(act, Act::GenesisFounded { .. })), 1);
        assert_eq!(
            count(|act| matches!(act, Act::GenesisOrdering { .. })),
            2,
            "k approved the counter, then the registers"
        );
        assert_eq!(count(|act| matches!(act, Act::GenesisOrdered { .. })), 2);
        assert_eq!(count(|act| matches!(act, Act::GenesisNotOrdered { .. })), 0, "nobody had to approve again");
    }
}

fn network(seed: u64) -> (Network, ChaCha20Rng) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (Network::new(2, &EMBASSIES[..1], &mut rng), rng)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_founded_though_every_write_fails_first_in_one_way_or_the_other() {
    let (mut network, mut rng) = network(1);
    // Before, after, and well; so each commit fails at least once, and half of them although they took effect.
    let turns = Mutex::new([Some(Fault::Before), Some(Fault::After), None].into_iter().cycle());
    let hook: Hook = Box::new(move |call| match call {
        Call::Commit(_) => turns.lock().unwrap().next().unwrap(),
        _ => None,
    });
    let house = House::new(&network, hook, None).await;
    house.until(&mut network, "the founding", &mut rng, House::is_founded).await;
    house.check(&network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_charter_that_cannot_be_stored_at_once_is_in_force_as_soon_as_it_can() {
    let (mut network, mut rng) = network(2);
    let faults = Arc::new(Mutex::new(VecDeque::from([Fault::Before, Fault::Before, Fault::After])));
    let left = Arc::clone(&faults);
    let hook: Hook = Box::new(move |call| match call {
        Call::Commit(batch) if batch.puts.iter().any(|put| put.key.kind == Kind::Charter) => {
            faults.lock().unwrap().pop_front()
        }
        _ => None,
    });
    let house = House::new(&network, hook, None).await;
    let said = |house: &House| house.is_founded() || left.lock().unwrap().len() < 3;
    house.until(&mut network, "the last signature", &mut rng, said).await;
    assert!(!house.is_founded(), "it is not in force before it is stored");
    assert_eq!(house.founding.charter().charter().parts().version, 1);
    // Nobody says anything more, and nobody looks.
    let mut founded = house.founding.founded();
    tokio::time::timeout(PATIENCE, founded.wait_for(|founded| *founded)).await.expect("it is tried again").unwrap();
    assert!(left.lock().unwrap().is_empty());
    house.check(&network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_the_tpm_and_what_it_did_is_not_lost_with_who_caused_it() {
    let (mut network, mut rng) = network(3);
    let (let_go, waits) = mpsc::channel();
    let house = House::new(&network, Box::new(|_| None), Some((1, waits))).await;
    house.until(&mut network, "the first order", &mut rng, |house| house.orders.load(Ordering::SeqCst) == 1).await;
    // The TPM hangs. Where the founding stands, what was said, and an answer to what is said come all the same.
    let began = Instant::now();
    let view = tokio::time::timeout(LOOK, house.founding.view()).await.expect("it is told where it stands");
    assert_eq!(view.waiting, "the TPM to do what anna, boris approved");
    let genesis = house.board(&network).await;
    let Genesis::Ordering(_) = &genesis else { panic!("{:?}", genesis.status()) };
    let person = network.take(0);
    let (posts, _) = house.founding.posts(0, usize::MAX).await;
    let first = posts.iter().find_map(|post| match Post::decode(post).unwrap() {
        Post::Message { from, message } if from == person.name => Some(*message),
        _ => None,
    });
    let heard = tokio::time::timeout(LOOK, house.founding.hear(person.name.clone(), first.unwrap())).await;
    assert!(!heard.expect("an answer").unwrap().new, "it was known");
    assert!(began.elapsed() < 3 * LOOK);
    network.put(0, person);
    // Whoever gave the approval that set it going is long gone; what the TPM does now is written down.
    let_go.send(()).unwrap();
    house.until(&mut network, "the founding", &mut rng, House::is_founded).await;
    house.check(&network).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_writes_on_the_board_and_the_founding_goes_on_from_what_stands_there() {
    let (mut network, mut rng) = network(4);
    let house = House::new(&network, Box::new(|_| None), None).await;
    house.until(&mut network, "an offer", &mut rng, |house| house.orders.load(Ordering::SeqCst) == 1).await;
    let size = house.founding.view().await.posts;
    let theirs = Put { key: Key::new(Kind::Genesis, format!("post/{size:010}")), expected: None, bytes: vec![0; 9] };
    house.disk.inner().commit(Batch { puts: vec![theirs], entries: Vec::new() }).await.unwrap();
    house.until(&mut network, "the founding", &mut rng, House::is_founded).await;
    let (posts, _) = house.founding.posts(size, usize::MAX).await;
    assert_eq!(posts[0].as_slice(), [0; 9], "nothing is written over what another process wrote");
    assert_eq!(house.founding.charter().charter().parts().version, 2);
    let acts = house.acts().await;
    assert_eq!(acts.iter().filter(|act| matches!(act, Act::GenesisFounded { .. })).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_founding_lets_go_of_the_tpm_and_still_shows_what_stands() {
    let (mut network, mut rng) = network(5);
    let house = House::new(&network, Box::new(|_| None), None).await;
    house.until(&mut network, "an order", &mut rng, |house| house.orders.load(Ordering::SeqCst) == 1).await;
    let posts = house.founding.view().await.posts;
    assert!(!house.gone.load(Ordering::SeqCst));
    let other = house.founding.clone();
    tokio::time::timeout(PATIENCE, house.founding.close()).await.unwrap();
    assert!(house.gone.load(Ordering::SeqCst), "one connection to a TPM at a time");
    assert!(tokio::time::timeout(LOOK, other.view()).await.unwrap().posts >= posts);
    let person = network.take(0);
    let genesis = house.board(&network).await;
    let again = person.again(&genesis, chancery::protocol::ids::QuorumKind::Unseal, "it is closed");
    let refused = tokio::time::timeout(LOOK, other.hear(person.name.clone(), again)).await.unwrap();
    assert_eq!(refused.unwrap_err().code().as_str(), "busy");
}
