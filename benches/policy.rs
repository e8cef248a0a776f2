//! What a decision of the access policy costs: an unwrap's, with the longest list of agents that a statement may have.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use chancery::service::policy::{Case, Policy};
use criterion::{Criterion, criterion_group, criterion_main};

fn unwrap_by_one_of(agents: usize) -> Case {
    let agents: Vec<String> = (1..=agents).map(|number| format!("\"replica-{number}\"")).collect();
    let json = format!(
        r#"{{
            "title": "An unwrap",
            "who": {{"role": "agent", "name": "replica-1"}},
            "act": "unwrap",
            "embassy": {{"name": "luxembourg", "class": "firmware", "leases": true}},
            "lease": {{"id": "7f3a", "state": "live", "agents": [{}], "datasets": ["land-register"], "owners": ["land-board"]}},
            "dataset": {{"name": "land-register", "owner": "land-board"}},
            "hybrid": true
        }}"#,
        agents.join(", ")
    );
    Case::read(json.as_bytes()).unwrap()
}

fn decisions(c: &mut Criterion) {
    let policy = Policy::embedded().unwrap();
    for agents in [1, 16] {
        let case = unwrap_by_one_of(agents);
        c.bench_function(&format!("policy/unwrap, {agents} agents"), |b| {
            b.iter(|| black_box(case.ask(&policy)).unwrap().unwrap());
        });
    }
    c.bench_function("policy/load and check", |b| b.iter(|| Policy::embedded().unwrap()));
}

criterion_group!(benches, decisions);
criterion_main!(benches);
