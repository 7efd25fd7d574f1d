//! Messages that are held back: nothing is lost, nothing overtakes, and the end of input keeps its place.

use super::*;

/// Three messages and a Close.
fn wire() -> Vec<u8> {
    let frames: [(u8, &[u8]); 4] = [(0x81, b"1"), (0x81, b"2"), (0x81, b"3"), (0x88, b"\x03\xe8")];
    frames.iter().flat_map(|(first, payload)| frame(Role::Client, *first, payload)).collect()
}

#[test]
fn a_pause_behind_any_message_keeps_the_rest_at_every_cut() {
    let wire = wire();
    for cut in 0..=wire.len() {
        for paused_behind in ["text '1'", "text '2'", "text '3'"] {
            let mut end = End::server();
            let pause = |connection: &mut Connection, event: &str| {
                if event == paused_behind {
                    connection.pause();
                }
            };
            end.read_and(&wire[..cut], pause);
            end.read_and(&wire[cut..], pause);
            assert!(end.heard.last().is_some_and(|last| last == paused_behind), "{paused_behind}, cut at {cut}");
            assert!(!end.connection.wants_input(&end.workspace));
            end.connection.resume(end.now);
            end.read(b"");
            assert_eq!(end.told(), "text '1', text '2', text '3', closed 1000 '' by peer", "cut at {cut}");
        }
    }
}

#[test]
fn what_is_read_after_a_resume_does_not_overtake_what_waited() {
    let mut end = End::server();
    end.read_and(&[frame(Role::Client, 0x81, b"1"), frame(Role::Client, 0x81, b"2")].concat(), |connection, _| {
        connection.pause();
    });
    end.connection.resume(end.now);
    // The driver has not come to `take_waiting` when a read completes.
    end.read(&frame(Role::Client, 0x81, b"3"));
    assert_eq!(end.told(), "text '1', text '2', text '3'");
}

#[test]
fn one_message_at_a_time() {
    let mut end = End::server();
    end.read_and(&wire(), |connection, _| connection.pause());
    for want in ["text '1'", "text '2'", "text '3'", "closed 1000 '' by peer", ""] {
        assert_eq!(end.told(), want);
        end.connection.resume(end.now);
        end.read_and(b"", |connection, _| connection.pause());
    }
}

#[test]
fn the_end_of_input_comes_behind_what_waits() {
    let wire = wire();
    for cut in 0..=wire.len() {
        let mut end = End::server();
        end.read_and(&wire[..cut], |connection, _| connection.pause());
        let open = end.connection.is_open();
        // Under TLS close_notify comes with the data, and is seen whatever the application has paused.
        end.eof();
        end.eof();
        end.connection.resume(end.now);
        end.read(b"");
        let whole = cut / 7;
        let mut want: Vec<String> = (1..=whole.min(3)).map(|number| format!("text '{number}'")).collect();
        want.push(if cut == wire.len() { "closed 1000 '' by peer" } else { "closed 1006 '' by transport" }.to_owned());
        assert_eq!(end.told(), want.join(", "), "cut at {cut}, open: {open}");
        end.output();
        end.connection.fin_sent();
        assert_eq!(end.connection.next_step(), NextStep::Close, "the end is not waited for twice");
    }
}

#[test]
fn the_end_of_input_outlasts_a_second_pause() {
    let two = [frame(Role::Client, 0x81, b"1"), frame(Role::Client, 0x81, b"2")].concat();
    let mut end = End::server();
    end.read_and(&two, |connection, _| connection.pause());
    end.eof();
    end.connection.resume(end.now);
    end.read_and(b"", |connection, _| connection.pause());
    assert_eq!(end.told(), "text '1', text '2'");
    assert!(end.connection.is_open());
    end.connection.resume(end.now);
    end.read(b"");
    assert_eq!(end.told(), "closed 1006 '' by transport");
    assert_eq!(end.connection.next_step(), NextStep::Fin);
    end.connection.fin_sent();
    assert_eq!(end.connection.next_step(), NextStep::Close);
}

#[test]
fn a_reset_does_not_wait() {
    let mut end = End::server();
    end.read_and(&wire(), |connection, _| connection.pause());
    end.reset();
    assert_eq!(end.told(), "text '1', closed 1006 '' by transport");
    assert_eq!(end.connection.next_step(), NextStep::Close);
}

#[test]
fn closing_reads_on() {
    let mut end = End::server();
    end.read_and(&wire(), |connection, _| connection.pause());
    end.connection.hold(true, end.now);
    end.close(4000, "");
    assert!(end.connection.wants_input(&end.workspace));
    end.connection.pause();
    end.connection.hold(true, end.now);
    end.read(b"");
    assert_eq!(end.told(), "text '1', closed 4000 '' by local");
}

#[test]
fn pausing_and_holding_are_apart() {
    let mut end = End::server();
    let message = frame(Role::Client, 0x81, b"x");
    end.connection.pause();
    end.connection.hold(true, end.now);
    end.read(&message);
    end.connection.hold(false, end.now);
    end.read(b"");
    assert_eq!(end.told(), "");
    end.connection.hold(true, end.now);
    end.connection.resume(end.now);
    end.read(b"");
    assert_eq!(end.told(), "");
    end.connection.hold(false, end.now);
    end.read(b"");
    assert_eq!(end.told(), "text 'x'");
}
