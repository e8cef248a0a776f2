//! Leaving out policies that an act cannot concern changes no answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn the_policies_of_an_act_answer_as_all_of_them_do() {
    let policy = Policy::embedded().unwrap();
    let all: PolicySet =
        policy.text().policies().values().map(|text| text.as_str()).collect::<String>().parse().unwrap();
    let whole =
        all.policies().map(|policy| policy.new_id(cedar_policy::PolicyId::new(policy.annotation("id").unwrap())));
    let whole = PolicySet::from_policies(whole).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/cases");
    let mut asked = 0;
    for path in std::fs::read_dir(folder).unwrap() {
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path.unwrap().path()).unwrap()).unwrap();
        for role in facts::ASKERS.map(|(role, _)| role) {
            for quorums in [vec![], vec!["unseal"], vec!["recovery"], vec!["unseal", "recovery"]] {
                // Only officials are in quorums.
                if role != Role::Official && !quorums.is_empty() {
                    continue;
                }
                let mut json = json.clone();
                json["who"]["role"] = role.segment().into();
                json["who"]["quorums"] = quorums.into();
                let case = Case::read(json.to_string().as_bytes()).unwrap();
                case.with_question(|question| {
                    let (request, entities) = policy.names.translate(question, &policy.schema).unwrap();
                    let few = &policy.sets[question.act.name()];
                    assert!(few.num_of_policies() < whole.num_of_policies() / 2);
                    let answer = policy.decide(few, &request, &entities);
                    assert_eq!(answer, policy.decide(&whole, &request, &entities), "{json}");
                })
                .unwrap();
                asked += 1;
            }
        }
    }
    assert!(asked > 500);
}
