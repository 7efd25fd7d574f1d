//! Order, bounds and the rule against deadlock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;

#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Ringer for Counted {
    fn wake(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn mesh(core_count: usize, capacity: usize) -> (Mesh<u32>, Vec<Counted>) {
    let counted: Vec<_> = (0..core_count).map(|_| Counted::default()).collect();
    let ringers = counted.iter().map(|c| Box::new(c.clone()) as Box<dyn Ringer>).collect();
    (Mesh::new(ringers, capacity), counted)
}

fn drain(mailbox: &mut Mailbox<u32>) -> Vec<u32> {
    mailbox.answer_bell();
    std::iter::from_fn(|| mailbox.take()).collect()
}

#[test]
fn a_bell_rings_once_until_it_is_answered() {
    let (mut mesh, counted) = mesh(2, 4);
    for n in 0..3 {
        mesh.cores[0].0.send(1, n).expect("there is room");
    }
    assert_eq!(counted[1].0.load(SeqCst), 1);
    assert_eq!(drain(&mut mesh.cores[1].1), [0, 1, 2]);
    mesh.cores[0].0.send(1, 3).expect("there is room");
    assert_eq!(counted[1].0.load(SeqCst), 2);
    assert_eq!(counted[0].0.load(SeqCst), 0);
}

#[test]
fn a_full_ring_backs_up_in_order_and_then_refuses() {
    let (mut mesh, _) = mesh(2, 4);
    let sent: Vec<_> = (0..20).filter(|&n| mesh.cores[0].0.send(1, n).is_ok()).collect();
    assert_eq!(sent, (0..8).collect::<Vec<_>>(), "four in the ring, four in the backlog");
    assert!(mesh.cores[0].0.is_congested());
    let mut received = drain(&mut mesh.cores[1].1);
    mesh.cores[0].0.catch_up();
    assert!(!mesh.cores[0].0.is_congested());
    received.extend(drain(&mut mesh.cores[1].1));
    assert_eq!(received, sent);
}

#[test]
fn two_cores_that_publish_to_each_other_both_move_on() {
    let (mut mesh, _) = mesh(2, 2);
    let (mut left, mut right) = {
        let mut cores = mesh.cores.drain(..);
        (cores.next().expect("two cores"), cores.next().expect("two cores"))
    };
    let mut next = [0u32; 2];
    let mut received = [Vec::new(), Vec::new()];
    // Each wants to send as much as it can in every turn, and empties its own mailbox in every turn.
    for _turn in 0..100 {
        for (side, from, to) in [(0, &mut left, 1), (1, &mut right, 0)] {
            from.0.catch_up();
            while from.0.send(to, next[side]).is_ok() {
                next[side] += 1;
            }
            received[side].extend(drain(&mut from.1));
        }
    }
    assert!(received.iter().all(|r| r.len() >= 100), "{} and {} arrived", received[0].len(), received[1].len());
    for r in received {
        assert!(r.iter().copied().eq(0..r.len() as u32), "in order, nothing lost");
    }
}

#[test]
fn other_threads_are_heard_and_bounded() {
    let (mut mesh, counted) = mesh(1, 2);
    let outside = mesh.outside[0].clone();
    let accepted = std::thread::spawn(move || (0..5).filter(|&n| outside.send(n).is_ok()).count());
    assert_eq!(accepted.join().expect("the thread does not panic"), 2);
    assert_eq!(counted[0].0.load(SeqCst), 1);
    assert_eq!(drain(&mut mesh.cores[0].1), [0, 1]);
}

#[test]
fn nothing_is_lost_between_threads_that_sleep() {
    // The receiver takes a turn only when its bell rang: an envelope that did not ring would hang this test.
    let (mut mesh, counted) = mesh(2, 8);
    let (mut post, _) = mesh.cores.remove(0);
    let (_, mut mailbox) = mesh.cores.remove(0);
    let sender = std::thread::spawn(move || {
        for n in 0..50_000u32 {
            while post.send(1, n).is_err() {
                std::thread::yield_now();
            }
        }
        while post.is_congested() {
            post.catch_up();
            std::thread::yield_now();
        }
    });
    let (mut want, mut answered) = (0, 0);
    while want < 50_000 {
        if counted[1].0.load(SeqCst) == answered {
            std::thread::yield_now();
            continue;
        }
        answered = counted[1].0.load(SeqCst);
        for n in drain(&mut mailbox) {
            assert_eq!(n, want);
            want += 1;
        }
    }
    sender.join().expect("the sender does not panic");
}

#[test]
fn a_census_admits_up_to_its_limit() {
    let census = Census::new(2);
    assert!(census.enter() && census.enter() && !census.enter());
    census.leave();
    assert!(census.enter());
    assert_eq!(census.present(), 2);
}
