use super::*;

#[test]
fn the_defaults_are_those_that_each_layer_documents() {
    let config = defaults(Command::Serve);
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
    assert_eq!(config.unix_mode, 0o660);
    assert_eq!(config.drain_time, Duration::from_secs(5));
    assert_eq!(config.driver, DriverChoice::default());
    assert_eq!(config.origin, OriginSetting::default());
    assert_eq!((config.log, config.log_level), (LogFormat::default(), LogLevel::default()));
    assert_eq!(config.admin, Some(SocketAddr::from(([127, 0, 0, 1], 9090))));
    assert_eq!(defaults(Command::Echo).admin, None);
    assert_eq!(defaults(Command::Broadcast).admin, None);
}

#[test]
fn every_word_is_taken_and_shown_as_itself() {
    for spec in OPTIONS {
        let Accepts::Word(words) = &spec.accepts else {
            continue;
        };
        for word in *words {
            let mut draft = Draft::new(Command::Serve);
            (spec.set)(&mut draft, &Input::new(spec, &[(*word).to_owned()])).expect(word);
            assert_eq!((spec.get)(&draft.config), Shown::Text((*word).to_owned()), "{}", spec.name);
        }
    }
}

#[test]
fn the_ends_of_every_range_are_inside_and_their_neighbours_outside() {
    let take = |spec: &'static OptionSpec, text: String| {
        (spec.set)(&mut Draft::new(Command::Serve), &Input::new(spec, &[text]))
    };
    for spec in OPTIONS {
        let (inside, outside) = match &spec.accepts {
            Accepts::Size(range) | Accepts::Count(range, None) => (
                vec![range.start().to_string(), range.end().to_string()],
                vec![(range.start() - 1).to_string(), (range.end() + 1).to_string()],
            ),
            Accepts::Count(range, Some(_)) => {
                (vec!["0".to_owned(), range.end().to_string()], vec![(range.end() + 1).to_string()])
            }
            Accepts::Span(range, zero) => {
                let mut ends = (
                    vec![parse::show_duration(*range.start()), parse::show_duration(*range.end())],
                    vec!["1us".to_owned(), parse::show_duration(*range.end() + Duration::from_secs(1))],
                );
                if zero.is_some() {
                    ends.0.push("0".to_owned())
                } else {
                    ends.1.push("0".to_owned())
                }
                ends
            }
            Accepts::Word(_) | Accepts::Form(_) => (vec![], vec!["]".to_owned()]),
        };
        for text in inside {
            assert_eq!(take(spec, text.clone()), Ok(()), "{} {text}", spec.name);
        }
        for text in outside {
            let free_form = matches!(spec.value_name, "FILE" | "KEY" | "NAME");
            assert!(free_form || take(spec, text.clone()).is_err(), "{} {text}", spec.name);
        }
    }
}

#[test]
fn groups_stand_together_and_names_are_distinct() {
    let mut groups: Vec<Group> = OPTIONS.iter().map(|spec| spec.group).collect();
    groups.dedup();
    for (index, group) in groups.iter().enumerate() {
        assert!(!groups[..index].contains(group), "{group:?} is in two places");
    }
    for (index, spec) in OPTIONS.iter().enumerate() {
        assert!(OPTIONS[..index].iter().all(|other| other.name != spec.name), "{}", spec.name);
        assert!(!spec.help.is_empty() && !spec.help.ends_with('.'), "{}", spec.name);
    }
}

/// Kubernetes gives every container variables for every service; those of a service named `corewire` must not be
/// taken for options.
#[test]
fn no_variable_is_one_that_kubernetes_sets_for_a_service() {
    for spec in OPTIONS {
        assert!(!spec.variable().starts_with("COREWIRE_PORT"));
        assert!(!spec.variable().starts_with("COREWIRE_SERVICE"));
    }
}
