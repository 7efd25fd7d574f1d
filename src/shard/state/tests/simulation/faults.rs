//! How often everything happened that is to happen: a simulation whose faults stay away proves nothing.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts, of one run or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct Faults {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl Faults {
            pub(super) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Whether something has not happened at all.
            pub(super) fn has_missing(&self) -> bool {
                [$(self.$name,)*].contains(&0)
            }
        }
    };
}

faults! {
    /// Reads that ended within what the other side had written.
    cut_reads,
    /// Reads that filled their buffer, and left something behind that only another look would find.
    full_reads,
    /// FINs that came together with bytes, and are found by another look.
    late_ends,
    /// Writes of which the socket took only a part.
    short_writes,
    /// Writes that were lent to the ring and came back.
    ring_writes,
    /// Receives that brought something although reading had stopped.
    late_receives,
    /// Sockets that broke while something was written.
    broken_writes,
    /// Clients that left by Close, FIN, reset, and without a word.
    closes,
    fins,
    resets,
    vanishings,
    /// Clients that broke a rule.
    violations,
    /// Connections that the server closed for their silence, and because it ends.
    idle_closes,
    drained,
    /// Connections that were told 4006.
    slow_closes,
    /// Connections that were told that something cannot be done or was lost, by 1013.
    try_later_closes,
    /// Connections that found no room.
    turned_away,
    /// Turns that a core was kept from taking.
    stalls,
    /// Envelopes that found no room in ring and backlog.
    mesh_refused,
    /// Publications that a home refused.
    publications_refused,
    /// Publications that were dropped or replaced at slow consumers.
    queue_drops,
    conflated,
    /// Recoveries that were exact and brought something, and those that failed.
    recoveries,
    failed_recoveries,
    /// Publications that came by recovery.
    replayed,
    /// Last values for newcomers, and for those whose recovery failed.
    last_values,
    last_values_after_failure,
    /// Subscriptions that the server ended because something was lost.
    ended_for_loss,
    /// Questions to homes that were not answered in time.
    unanswered,
    /// Requests that were sent while an earlier one about the same topic was not answered.
    pipelined,
    /// Joins and leaves that were told.
    joins,
    leaves,
    /// Answers to other threads, and how many of these named a core that was silent.
    outside_answers,
    silent_cores,
    /// Publications that were said twice under one key, and published once.
    repeats,
    /// Publications that clients heard.
    heard,
    /// Events of streams; recoveries by id that brought something; gaps.
    streamed,
    streams_recovered,
    stream_gaps,
}
