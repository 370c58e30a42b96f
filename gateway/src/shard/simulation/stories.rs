//! What a seed would meet too seldom, told one by one.

use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Qos, ReasonCode};

use super::client::{Character, Client};
use super::world::{Plan, World};
use crate::shard::connection::State;

fn client(client_id: &str, version: ProtocolVersion) -> Client {
    Client::new(Character {
        client_id: client_id.to_owned(),
        version,
        steady: false,
        clean_start: true,
        keep_alive: 0,
        may_be_closed: true,
    })
}

/// A client id whose home is `shard`.
fn id_at_home(world: &World, shard: usize, from: usize) -> String {
    let ids = (from..).map(|number| format!("client-{number}"));
    let mut at_home = ids.filter(|id| world.home_of(id) == shard);
    at_home.next().expect("every shard is home to somebody")
}

/// A connection that a shard has accepted, and that has said CONNECT.
fn come(world: &mut World, client: Client, shard: usize) -> usize {
    world.clients.push(client);
    let index = world.clients.len() - 1;
    world.dial_at(index, shard);
    world.clients[index].connect(&mut world.chance);
    index
}

/// Hands the network all that a client has to say.
fn say_all(world: &mut World, index: usize) {
    let network = &world.network;
    let write = |line, bytes: &[u8]| network.write(line, bytes);
    world.clients[index].write_some(usize::MAX, write);
}

/// [3.1.1 MQTT-4.8.0-2]: a lane that is full just now closes the connection whose CONNECT it could not take.
#[test]
fn a_full_hand_over_lane_refuses_in_words_the_client_knows() {
    for (version, reason) in [
        (ProtocolVersion::V5, ReasonCode::QuotaExceeded),
        (ProtocolVersion::V3_1_1, ReasonCode::ServerUnavailable),
    ] {
        let plan = Plan {
            hand_over_slots: 1,
            ..Plan::story(2)
        };
        let mut world = World::new(plan);
        let first_id = id_at_home(&world, 1, 0);
        let second_id = id_at_home(&world, 1, 1_000);
        let first = come(&mut world, client(&first_id, version), 0);
        let second = come(&mut world, client(&second_id, version), 0);
        // Only the shard that accepts goes on; the home of both takes nothing.
        for _ in 0..20 {
            world.step_client(first);
            world.step_client(second);
            world.step_seat(0, true);
        }
        assert_eq!(world.clients[second].last_reason(), Some(reason));
        let tally = &world.seats[0].worker.core.connections.tally;
        assert_eq!((tally.hand_overs, tally.hand_overs_refused), (1, 1));
        world.come_to_rest();
        assert!(world.clients[first].is_connected());
        assert!(world.clients[second].talk.is_none(), "refused and closed");
        world.everybody_leaves();
        world.check_empty();
    }
}

#[test]
fn a_codec_that_panics_costs_its_connection_and_no_other() {
    let mut world = World::new(Plan::story(1));
    let struck = come(&mut world, client("struck", ProtocolVersion::V5), 0);
    let other = come(&mut world, client("other", ProtocolVersion::V5), 0);
    world.come_to_rest();
    world.clients[other].subscribe(&[("will".to_owned(), Qos::AtMostOnce)]);
    world.come_to_rest();
    let worker = &mut world.seats[0].worker;
    let connections = &mut worker.core.connections;
    let mut named = connections
        .slab
        .ids()
        .map(|id| (id, connections.client_id(id)));
    let (id, _) = named
        .find(|(_, name)| *name == Some("struck"))
        .expect("it is connected");
    drop(named);
    let said = connections.speak(id, |_, _, _| panic!("a defect of the codec"));
    assert_eq!(said, None::<()>);
    // Everybody else is served on, and the struck one is told by the end of its connection.
    world.clients[other].ping();
    world.come_to_rest();
    world.clients[other].check_answered();
    assert!(world.clients[other].is_connected());
    assert!(world.clients[struck].talk.is_none());
    let disconnects = world.seats[0]
        .worker
        .core
        .connections
        .tally
        .disconnects("mqtt");
    let counted = disconnects
        .iter()
        .any(|(.., reason, n)| (*reason, *n) == ("codec_panicked", 1));
    assert!(counted, "{disconnects:?}");
    world.everybody_leaves();
    world.check_empty();
}

#[test]
fn connect_that_comes_when_the_turns_work_is_done_is_taken_up_later() {
    let mut world = World::new(Plan::story(2));
    let mut busy = Vec::new();
    for number in 0..40 {
        let client_id = id_at_home(&world, 0, 1_000 * number);
        busy.push(come(&mut world, client(&client_id, ProtocolVersion::V5), 0));
    }
    world.come_to_rest();
    let late: Vec<_> = (0..4)
        .map(|number| {
            come(
                &mut world,
                client(&format!("late-{number}"), ProtocolVersion::V5),
                0,
            )
        })
        .collect();
    // Accepted, and asked to receive, before anybody says a word.
    for _ in 0..4 {
        world.step_seat(0, true);
        world.step_seat(1, true);
    }
    for &index in &busy {
        (0..200).for_each(|_| world.clients[index].ping());
        say_all(&mut world, index);
    }
    for &index in &late {
        // What is pipelined behind CONNECT waits with it.
        world.clients[index].subscribe(&[("t/#".to_owned(), Qos::AtLeastOnce)]);
        say_all(&mut world, index);
    }
    let mut put_off = 0;
    for _ in 0..20 {
        world.step_seat(0, true);
        let connections = &world.seats[0].worker.core.connections;
        let waiting = connections.resumed.iter().filter(|&&id| {
            let connection = connections.slab.get(id);
            connection.is_some_and(|connection| connection.state == State::AwaitConnect)
        });
        put_off = put_off.max(waiting.count());
    }
    assert_eq!(put_off, late.len(), "the turn had no work left for them");
    world.come_to_rest();
    for index in busy.into_iter().chain(late) {
        assert!(world.clients[index].is_connected());
        world.clients[index].check_answered();
    }
    world.everybody_leaves();
    world.check_empty();
}

#[test]
fn a_shard_filled_by_hand_overs_leaves_newcomers_in_its_backlog() {
    let plan = Plan {
        connections_max: 2,
        ..Plan::story(2)
    };
    let mut world = World::new(plan);
    // Accepted by one shard, at home on the other, which thus fills without accepting anybody.
    for from in [0, 1_000] {
        let client_id = id_at_home(&world, 1, from);
        come(&mut world, client(&client_id, ProtocolVersion::V5), 0);
        world.come_to_rest();
    }
    let client_id = id_at_home(&world, 1, 2_000);
    let third = come(&mut world, client(&client_id, ProtocolVersion::V5), 1);
    world.come_to_rest();
    assert!(
        world.clients[third].talk.is_some(),
        "it waits and is not turned away"
    );
    assert!(!world.clients[third].is_connected());
    world.clients[0].disconnect(ReasonCode::Success);
    world.come_to_rest();
    assert!(world.clients[third].is_connected());
    world.everybody_leaves();
    world.check_empty();
}
