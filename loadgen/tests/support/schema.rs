//! Whether a value keeps to a schema.

use serde_json::Value;

/// The part of JSON Schema that ours uses.
pub(crate) fn check(value: &Value, schema: &Value, place: &str, complaints: &mut Vec<String>) {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => panic!("{place}: the schema says no type"),
    };
    let fits = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        unknown => panic!("{place}: the schema says {unknown}"),
    };
    if !types.iter().any(fits) {
        return complaints.push(format!("{place}: {value} is none of {types:?}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        complaints.push(format!("{place}: {value} is none of {allowed:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(required).is_none() {
            complaints.push(format!("{place}.{required} is missing"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Object(_)) => check(field, &schema["additionalProperties"], &place, complaints),
            (Value::Null, _) => complaints.push(format!("{place} is unknown")),
            (known, _) => check(field, known, &place, complaints),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(item, &schema["items"], &format!("{place}[]"), complaints);
    }
}
