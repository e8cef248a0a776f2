//! The gate, without a network: every path is behind it, and each refusal names its rule.

use crate::support::World;

#[test]
fn a_world_stands() {
    let world = World::new();
    assert_eq!(world.charter.charter().parts().version, 2);
    assert_eq!(world.version(0).description().dataset, world.datasets[0].name);
}
