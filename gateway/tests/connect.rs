//! Stories about coming in: CONNECT, hand-over to the home shard, takeover, refusals, timeouts.

mod support;

use support::*;

#[test]
fn a_client_connects_and_is_answered() {
    for_every_layout(|gateway| {
        for version in [V3_1, V3_1_1, V5] {
            let mut client = gateway.connect(options(version, "client"));
            assert!(!client.session_present());
            client.ping();
            client.disconnect();
        }
        gateway.await_total(0, |shard| shard.connections[0].2);
        assert_eq!(gateway.connects("accepted"), 3);
        assert_eq!(gateway.disconnects("client_disconnected"), 3);
    });
}

#[test]
fn a_client_lives_on_its_home_shard_wherever_it_was_accepted() {
    for_every_layout(|gateway| {
        let mut clients: Vec<_> =
            (0..64).map(|n| gateway.client(&format!("client-{n}"))).collect();
        clients.iter_mut().for_each(Client::ping);
        let expected = |shard: u16| {
            let ids = (0..64).map(|n| format!("client-{n}"));
            ids.filter(|id| gateway.home_of(id) == shard).count() as u64
        };
        for snapshot in gateway.snapshots() {
            assert_eq!(snapshot.connections[0].2, expected(snapshot.shard));
            assert_eq!(snapshot.router.sessions_online, expected(snapshot.shard));
        }
        if gateway.layout.shards > 1 {
            assert!(gateway.total(|shard| shard.hand_overs_total) > 0);
        }
    });
}
