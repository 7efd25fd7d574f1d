//! Scenarios with topics over a wire that is known: `fanout --wire`, `recovery`, `idle --wire`.

use std::sync::Arc;

use corewire::protocol::MessageKind;

use super::{FANOUT_RATE, load_of};
use crate::args::{ApiArgs, Common, FanoutArgs, RecoveryArgs, TokenArgs};
use crate::conduct::{Load, ScenarioPlan};
use crate::crowd;
use crate::payload;
use crate::scenario::topics::http::HttpTarget;
use crate::scenario::topics::{Hall, TopicsPlan};
use crate::target::Scheme;

/// How many topics, and how many subscribe to each.
#[derive(Clone, Copy)]
struct Audience {
    topics: u64,
    subscribers: Option<u64>,
    publishers: u64,
}

pub(super) fn fanout_load(args: &FanoutArgs) -> Result<Load, String> {
    let rate = args.rate.unwrap_or(FANOUT_RATE);
    if rate / (args.burst as f64) < 0.001 {
        return Err(format!("a --burst of {} at {rate} per second leaves hardly ever", args.burst));
    }
    let audience = Audience { topics: args.topics, subscribers: args.subscribers, publishers: args.publishers };
    let load = topics_load(&args.common, args.size, audience, rate, &args.api, &args.token)?;
    let ScenarioPlan::Topics(plan) = load.plan else { return Err("these are no topics".to_owned()) };
    Ok(Load { plan: ScenarioPlan::Topics(TopicsPlan { burst: args.burst, ..plan }), ..load })
}

pub(super) fn recovery_load(args: &RecoveryArgs) -> Result<Load, String> {
    let audience = Audience { topics: args.topics, subscribers: args.subscribers, publishers: args.publishers };
    let load = topics_load(&args.common, args.size, audience, args.rate, &args.api, &args.token)?;
    let ScenarioPlan::Topics(plan) = load.plan else { return Err("these are no topics".to_owned()) };
    // Those that come back need new ports while the old ones still wait for the last segments of their connections.
    let ports = load.connections + (load.connections as f64 * args.drop).ceil() as usize;
    let sources = crowd::sources(ports, load.address.ip());
    Ok(Load { plan: ScenarioPlan::Topics(TopicsPlan { drop: Some(args.drop), ..plan }), sources, ..load })
}

/// Subscribers of topics over `corewire.v1`.
fn topics_load(
    common: &Common,
    size: usize,
    Audience { topics, subscribers, publishers }: Audience,
    rate_per_second: f64,
    api: &ApiArgs,
    token: &TokenArgs,
) -> Result<Load, String> {
    let connections = common.connections;
    let subscriptions = match subscribers {
        Some(each) => topics.checked_mul(each).ok_or("so many subscriptions cannot be counted")?,
        None => connections,
    };
    let hall = Hall { topics, subscriptions, connections };
    if subscriptions < connections {
        return Err(format!(
            "{topics} topics with {} subscribers each are {subscriptions} subscriptions, too few for {connections} \
             connections to have one each",
            subscriptions / topics
        ));
    }
    if subscriptions < topics {
        return Err(format!("{topics} topics are more than there are subscriptions: say --subscribers"));
    }
    if hall.per_connection() > topics {
        return Err(format!(
            "{connections} connections are too few: some would subscribe twice to one of {topics} topics"
        ));
    }
    if subscriptions > SUBSCRIPTIONS_MAX {
        return Err(format!("{subscriptions} subscriptions are too many: {SUBSCRIPTIONS_MAX} at most"));
    }
    if publishers.saturating_mul(topics) > u64::from(payload::ORIGIN_MAX) {
        return Err(format!("{publishers} publishers are too many for {topics} topics to be told apart"));
    }
    if size < payload::STAMP_LEN {
        return Err(format!("publications need {} bytes of data, to be told apart", payload::STAMP_LEN));
    }
    let anywhere = common.i_may_load_this_host;
    let http = api.publish_url.as_deref();
    let http = http.map(|url| HttpTarget::parse(url, anywhere, api.api_key.clone(), common.timeout)).transpose()?;
    let publishers = usize::try_from(publishers).unwrap_or(usize::MAX);
    let on_links = if http.is_some() { 0 } else { publishers };
    let plan = TopicsPlan {
        len: size,
        publishers,
        hall,
        rate_per_second,
        burst: 1,
        http,
        token: read_token(token)?,
        drop: None,
        timeout_ns: common.timeout.as_nanos() as u64,
    };
    let mut load = load_of(common, MessageKind::Text, ScenarioPlan::Topics(plan))?;
    speak(&mut load, true)?;
    load.connections = load.connections.saturating_add(on_links);
    Ok(load)
}

/// The token that connections show, if they show one.
pub(super) fn read_token(args: &TokenArgs) -> Result<Option<Arc<str>>, String> {
    let (token, option) = match (&args.token, &args.token_file) {
        (Some(token), _) => (token.clone(), "--token".to_owned()),
        (None, Some(file)) => {
            let option = format!("--token-file {}", file.display());
            let text = std::fs::read_to_string(file).map_err(|error| format!("{option} cannot be read: {error}"))?;
            (text.trim().to_owned(), option)
        }
        (None, None) => return Ok(None),
    };
    // The characters of a JSON Web Token, which may stand in a URL as they are (RFC 7515 §2).
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if token.is_empty() || !token.chars().all(is_token) {
        return Err(format!("{option} is no token: three parts of letters, digits, - and _ with dots between them"));
    }
    Ok(Some(token.into()))
}

/// To where Corewire's topics are, if the URL does not say; `subprotocol` is `corewire.v1`.
pub(super) fn speak(load: &mut Load, subprotocol: bool) -> Result<(), String> {
    if load.target.scheme == Scheme::Tcp {
        return Err("topics are spoken of over WebSocket, and tcp:// is none".to_owned());
    }
    if load.target.path == "/" {
        load.target.path = "/ws".to_owned();
    }
    if subprotocol {
        load.subprotocols.push(corewire::wire::SUBPROTOCOL.to_owned());
    }
    Ok(())
}

/// What is remembered of each takes about 80 bytes.
const SUBSCRIPTIONS_MAX: u64 = 20_000_000;
