//! The API's description is the one that is committed, and speaks of every path and every refusal.

use chancery::service::{problem::Code, routes::description};

fn root(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_committed_description_is_the_one_of_this_program() {
    let (path, now) = (root("docs/openapi.json"), description() + "\n");
    if std::env::var_os("CHANCERY_WRITE_OPENAPI").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == now, "docs/openapi.json is of another program: `make openapi` writes it anew; commit that");
}

#[test]
fn each_operation_says_what_it_is_and_how_it_refuses() {
    let described: serde_json::Value = serde_json::from_str(&description()).unwrap();
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() > 10, "{} paths", paths.len());
    for (path, operations) in paths {
        assert!(path.starts_with("/v1/"), "{path}");
        for (method, operation) in operations.as_object().unwrap() {
            let said = operation["summary"].as_str().or(operation["description"].as_str());
            assert!(said.is_some_and(|said| said.len() > 5), "{method} {path} says nothing of itself");
            assert!(operation["responses"]["4XX"].is_object(), "{method} {path} does not say how it refuses");
        }
    }
}

#[test]
fn the_operators_table_has_every_code() {
    let table = std::fs::read_to_string(root("docs/service.md")).unwrap();
    for code in Code::ALL {
        let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
        assert!(table.contains(&row), "docs/service.md has no row `{row}`");
    }
}
