//! The operator is killed hundreds of times while the cluster is changed at random, and each time another one
//! brings it to an end that is as wanted.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kube::Client;
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    api,
    member::serve,
    objects::degraded,
    settle,
    world::{Shared, World},
};

/// How often the operator is killed.
const KILLS: u32 = 500;
/// The most kills during one change.
const IN_A_ROW: u64 = 12;
/// The latest change of a reconcile, or of the next ones, after which it is killed.
const LATEST: u64 = 3;
/// Gibibytes that volumes have at first.
const SIZE: u32 = 10;

/// By Steele, Lea and Flood: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u32 {
        u32::try_from(self.next() % bound).unwrap()
    }
}

/// What is wanted.
struct Wanted {
    nodes: u32,
    rolls: u32,
    size: u32,
}

/// Something happens; in words.
fn change(world: &mut World, wanted: &mut Wanted, random: &mut Random) -> String {
    let pod = random.below(u64::from(wanted.nodes));
    match random.below(7) {
        0 | 1 => {
            wanted.nodes = 3 + random.below(3);
            world.patch_spec(&json!({"nodes": wanted.nodes}));
            format!("{} nodes", wanted.nodes)
        }
        2 => {
            wanted.rolls += 1;
            world.patch_spec(&json!({"log": {"filter": format!("roll{}", wanted.rolls)}}));
            "a roll".to_owned()
        }
        3 => {
            wanted.size += 1;
            world.patch_spec(&json!({"storage": {"size": format!("{}Gi", wanted.size)}}));
            "larger volumes".to_owned()
        }
        4 => {
            world.lose_machine(pod);
            format!("the machine of pod {pod} is lost")
        }
        5 => {
            world.lose_volume(pod);
            format!("the volume of pod {pod} is lost")
        }
        _ => {
            world.strip_volume(pod);
            world.delete_pod(pod);
            format!("the volume of pod {pod} loses its labels")
        }
    }
}

/// The seed is printed; LOCKSTEP_SEED repeats one.
#[tokio::test]
async fn killed_hundreds_of_times_it_converges_each_time() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = std::env::var("LOCKSTEP_SEED").map_or(now.as_secs(), |seed| seed.parse().unwrap());
    println!("LOCKSTEP_SEED={seed}");
    let mut random = Random(seed);
    let network = Ipv4Addr::new(127, 64, 0, 0);
    let world: Shared = Arc::new(Mutex::new(World::new(network, json!({}))));
    let client = Client::new(api::service(Arc::clone(&world)), "default");
    let members = serve(Arc::clone(&world), network).await;
    settle(&world, &client, "creation").await;
    let mut wanted = Wanted {
        nodes: 3,
        rolls: 0,
        size: SIZE,
    };
    let mut changes = 0;
    while world.lock().deaths() < KILLS {
        let what = {
            let mut world = world.lock();
            let kills = 1 + random.below(IN_A_ROW);
            let after = (0..kills).map(|_| 1 + random.below(LATEST));
            world.kill_each(after.collect());
            change(&mut world, &mut wanted, &mut random)
        };
        settle(&world, &client, &format!("LOCKSTEP_SEED={seed}: {what}")).await;
        let world = world.lock();
        assert!(
            world.has(wanted.nodes) && degraded(&world.cluster()).is_none(),
            "LOCKSTEP_SEED={seed}: {what}: {:#}",
            world.picture()
        );
        changes += 1;
    }
    println!("killed {KILLS} times during {changes} changes");
    members.abort();
}
