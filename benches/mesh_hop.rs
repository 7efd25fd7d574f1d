//! What does one hop between cores cost: through the ring alone, and with waking the other core?
//!
//! `queue` sends envelopes and takes them out on one thread; its floor is the ring without bell, backlog and choice of
//! lane. `wake` sends one to another thread that sleeps on its bell, and waits for one that comes back the same way: two
//! hops. Its floor is the two eventfds without the mesh.
//! `cargo bench -p corewire --bench mesh_hop`
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use corewire::mesh::{Mailbox, Mesh, Post, Ringer};
use corewire::protocol::MessageKind;
use corewire::shard::Envelope;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::event::{EventfdFlags, eventfd};

struct Silent;

impl Ringer for Silent {
    fn wake(&self) {}
}

/// A bell that a thread sleeps on.
#[derive(Clone)]
struct Eventfd(Arc<OwnedFd>);

impl Eventfd {
    fn new() -> Self {
        Self(Arc::new(eventfd(0, EventfdFlags::empty()).expect("an eventfd")))
    }

    fn wait(&self) {
        let mut count = [0; 8];
        rustix::io::read(self.0.as_fd(), &mut count).expect("it is rung");
    }
}

impl Ringer for Eventfd {
    fn wake(&self) {
        rustix::io::write(self.0.as_fd(), &1u64.to_ne_bytes()).expect("room for one more");
    }
}

fn envelope(payload: &Bytes) -> Envelope {
    Envelope::Broadcast { kind: MessageKind::Text, payload: payload.clone() }
}

fn bench_queue(criterion: &mut Criterion) {
    let payload = Bytes::from_static(&[b'x'; 128]);
    let mut group = criterion.benchmark_group("mesh_hop/queue");
    for batch in [1, 64] {
        group.throughput(Throughput::Elements(batch));
        let (mut sender, mut receiver) = rtrb::RingBuffer::new(1024);
        group.bench_function(BenchmarkId::new("floor", batch), |bencher| {
            bencher.iter(|| {
                (0..batch).for_each(|_| assert!(sender.push(envelope(&payload)).is_ok()));
                (0..batch).for_each(|_| drop(black_box(receiver.pop())));
            });
        });
        let mesh = Mesh::new((0..2).map(|_| Box::new(Silent) as Box<dyn Ringer>).collect(), 1024);
        let [(mut post, _keep), (_post, mut mailbox)] =
            <[_; 2]>::try_from(mesh.cores).unwrap_or_else(|_| panic!("two cores"));
        group.bench_function(BenchmarkId::new("mesh", batch), |bencher| {
            bencher.iter(|| {
                (0..batch).for_each(|_| assert!(post.send(1, envelope(&payload)).is_ok()));
                mailbox.answer_bell();
                let taken = std::iter::from_fn(|| mailbox.take()).map(black_box).count();
                assert_eq!(taken as u64, batch);
            });
        });
    }
    group.finish();
}

fn bench_wake(criterion: &mut Criterion) {
    let payload = Bytes::from_static(&[b'x'; 128]);
    let mut group = criterion.benchmark_group("mesh_hop/wake");
    group.throughput(Throughput::Elements(2));
    group.bench_function("floor", |bencher| {
        bencher.iter_custom(|rounds| {
            let (near, far) = (Eventfd::new(), Eventfd::new());
            let answering = thread::spawn({
                let (near, far) = (near.clone(), far.clone());
                move || {
                    for _ in 0..rounds {
                        far.wait();
                        near.wake();
                    }
                }
            });
            let begin = Instant::now();
            for _ in 0..rounds {
                far.wake();
                near.wait();
            }
            let took = begin.elapsed();
            answering.join().expect("it answered all");
            took
        });
    });
    group.bench_function("mesh", |bencher| {
        bencher.iter_custom(|rounds| {
            let bells = [Eventfd::new(), Eventfd::new()];
            let mesh = Mesh::new(bells.iter().map(|bell| Box::new(bell.clone()) as Box<dyn Ringer>).collect(), 1024);
            let [(mut post, mut mailbox), (mut far_post, mut far_mailbox)] =
                <[_; 2]>::try_from(mesh.cores).unwrap_or_else(|_| panic!("two cores"));
            let [near, far] = bells;
            let answering = thread::spawn(move || {
                for _ in 0..rounds {
                    hop_back(&far, &mut far_mailbox, &mut far_post);
                }
            });
            let begin = Instant::now();
            for _ in 0..rounds {
                assert!(post.send(1, envelope(&payload)).is_ok());
                await_one(&near, &mut mailbox);
            }
            let took = begin.elapsed();
            answering.join().expect("it answered all");
            took
        });
    });
    group.finish();
}

fn hop_back(bell: &Eventfd, mailbox: &mut Mailbox<Envelope>, post: &mut Post<Envelope>) {
    let envelope = await_one(bell, mailbox);
    assert!(post.send(0, envelope).is_ok());
}

fn await_one(bell: &Eventfd, mailbox: &mut Mailbox<Envelope>) -> Envelope {
    bell.wait();
    mailbox.answer_bell();
    mailbox.take().expect("it was rung for one")
}

criterion_group!(benches, bench_queue, bench_wake);
criterion_main!(benches);
