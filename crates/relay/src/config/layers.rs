//! Where a setting's value comes from: a flag, else the environment, else the configuration file, else its default.
//!
//! Each layer is turned into flags and read by the one parser, first alone, so that a mistake is reported where it
//! was made, then all together.

use super::contracts::{ADMIN_TOKEN, FCM_CREDENTIALS, PRODUCTION, SINGLE_INSTANCE};
use super::settings::Settings;
use crate::boot::Refusal;
use crate::observe::log::{Event, Key};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// What the environment variables of settings start with.
pub(crate) const PREFIX: &str = "PYRYCODE_RELAY_";

/// Names the configuration file.
const FILE: &str = "PYRYCODE_RELAY_CONFIG";

/// Variables with the prefix that are no settings.
const NO_SETTINGS: [&str; 5] = [
    PRODUCTION,
    SINGLE_INSTANCE,
    FCM_CREDENTIALS,
    ADMIN_TOKEN,
    FILE,
];

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere.
    Default,
    /// In the configuration file.
    File(PathBuf),
    /// By an environment variable.
    Environment(String),
    /// On the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One setting as it is in force.
pub(crate) struct Value {
    /// The setting.
    pub(crate) name: String,
    /// As it was written.
    pub(crate) text: String,
    /// Where.
    pub(crate) origin: Origin,
    /// Whether somebody chose it: a flag, or another value than the default. An empty text where nothing is the default
    /// chooses nothing.
    given: bool,
}

/// The settings in force, as text and read.
pub(crate) struct Loaded {
    pub(super) settings: Settings,
    /// Every setting, in the order of the list.
    pub(crate) values: Vec<Value>,
    /// Variables that look like settings and are none.
    pub(crate) unknown_variables: Vec<String>,
    /// Closing on the admin page takes a token that somebody chose.
    pub(crate) has_admin_token: bool,
}

impl Loaded {
    /// The settings, read.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether somebody chose the setting's value. A file or an environment that spells the default out chooses
    /// nothing; a flag does, as in the Go relay, unless the default is no value and the flag's is empty.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.values.iter().any(|v| v.name == name && v.given)
    }
}

/// The environment, as far as settings are concerned.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// The variables of this process.
pub(crate) fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect()
}

/// Puts the layers together. `flags` is what clap made of the command line; `file` is the configuration file
/// the command line names.
///
/// # Errors
/// The first mistake in the environment or in the file, with its place.
pub(crate) fn load(
    flags: &ArgMatches,
    file: Option<&Path>,
    variables: &Variables,
) -> Result<Loaded, Refusal> {
    let named = variables.get(FILE).filter(|path| !path.is_empty());
    let named = named.map(PathBuf::from);
    let file = file.map(Path::to_owned).or(named);
    let names: Vec<String> = names();
    let mut layers: BTreeMap<&str, (String, Origin)> = BTreeMap::new();
    if let Some(path) = &file {
        for (name, value) in read_file(path, &names)? {
            layers.insert(name, (value, Origin::File(path.clone())));
        }
    }
    for name in &names {
        let variable = variable(name);
        if let Some(value) = variables.get(&variable) {
            let value = checked_variable(name, &variable, value)?;
            layers.insert(name, (value, Origin::Environment(variable)));
        }
    }
    for name in &names {
        if flags.value_source(&id(name)) == Some(ValueSource::CommandLine) {
            layers.insert(name, (raw(flags, name), Origin::Flag));
        }
    }
    finish(&names, layers, variables)
}

pub(super) fn finish(
    names: &[String],
    mut layers: BTreeMap<&str, (String, Origin)>,
    variables: &Variables,
) -> Result<Loaded, Refusal> {
    let matches = parse(layers.iter().map(|(name, (value, _))| (*name, &**value)));
    // Every layer was read alone before, and no setting's syntax depends on another.
    let invalid =
        |error: clap::Error| Refusal::new(Event::RefusedSettings).with(Key::Err, said(&error));
    let matches = matches.map_err(invalid)?;
    let settings = Settings::from_arg_matches(&matches).map_err(invalid)?;
    let defaults = parse(std::iter::empty()).map_err(invalid)?;
    let values = names.iter().map(|name| {
        let default = raw(&defaults, name);
        let (text, origin) = match layers.remove(&**name) {
            Some(written) => written,
            None => (default.clone(), Origin::Default),
        };
        Value {
            name: name.clone(),
            given: text != default || origin == Origin::Flag && !text.is_empty(),
            text,
            origin,
        }
    });
    let values = values.collect();
    let known = |variable: &String| {
        NO_SETTINGS.contains(&&**variable)
            || names.iter().any(|name| *variable == self::variable(name))
    };
    let unknown_variables = variables
        .keys()
        .filter(|variable| variable.starts_with(PREFIX) && !known(variable))
        .cloned()
        .collect();
    Ok(Loaded {
        settings,
        values,
        unknown_variables,
        has_admin_token: variables.contains_key(ADMIN_TOKEN),
    })
}

fn command() -> Command {
    Settings::augment_args(Command::new("settings").no_binary_name(true))
}

/// Every setting's name, as its flag is spelled.
pub(crate) fn names() -> Vec<String> {
    let command = command();
    command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .map(str::to_owned)
        .collect()
}

/// clap's name of a setting.
fn id(name: &str) -> String {
    name.replace('-', "_")
}

/// The setting's value as it was written; several are joined as they may be written in one.
fn raw(matches: &ArgMatches, name: &str) -> String {
    let values: Vec<&OsStr> = matches.get_raw(&id(name)).into_iter().flatten().collect();
    values.join(OsStr::new(",")).to_string_lossy().into_owned()
}

/// The environment variable of a setting.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

fn parse<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> Result<ArgMatches, clap::Error> {
    command().try_get_matches_from(values.map(|(name, value)| format!("--{name}={value}")))
}

/// What is wrong, without the usage text around it.
fn said(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

fn checked_variable(name: &str, variable: &str, value: &OsStr) -> Result<String, Refusal> {
    let malformed = |reason: String| {
        Refusal::new(Event::RefusedEnvironment)
            .with(Key::Err, format!("{variable} cannot be used"))
            .with(Key::EnvVar, variable)
            .with(Key::Reason, format!("malformed-value: {reason}"))
            .fix(format!(
                "correct or unset {variable}; it stands for --{name}"
            ))
    };
    let value = value
        .to_str()
        .ok_or_else(|| malformed("it is not UTF-8".into()))?;
    parse(std::iter::once((name, value))).map_err(|error| malformed(said(&error)))?;
    Ok(value.to_owned())
}

fn read_file<'a>(path: &Path, names: &'a [String]) -> Result<Vec<(&'a str, String)>, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fix = "correct --config, or make the file readable for the relay's user";
        refused_file(path, format!("cannot read it: {error}"), fix.into())
    })?;
    in_file(path, &text, names)
}

fn refused_file(path: &Path, err: String, fix: String) -> Refusal {
    Refusal::new(Event::RefusedFile)
        .with(Key::Err, err)
        .with(Key::Path, path.display())
        .fix(fix)
}

/// The settings in the text of the file at `path`.
pub(super) fn in_file<'a>(
    path: &Path,
    text: &str,
    names: &'a [String],
) -> Result<Vec<(&'a str, String)>, Refusal> {
    let refuse = |err, fix| refused_file(path, err, fix);
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text[..at].matches('\n').count() + 1;
        let fix = "write one setting a line, like: max-connections = 500";
        refuse(format!("line {line}: {}", error.message()), fix.into())
    })?;
    let mut settings: Vec<(&str, String)> = Vec::new();
    for (key, value) in &table {
        let Some(name) = names.iter().find(|name| **name == key.replace('_', "-")) else {
            let fix = match closest(key, names) {
                Some(name) => format!("did you mean {name}? `check-config` lists every setting"),
                None => "`check-config` lists every setting".to_owned(),
            };
            return Err(refuse(format!("unknown setting {key:?}"), fix));
        };
        if settings.iter().any(|(set, _)| set == name) {
            let fix = "keep one of its two spellings, with - or with _";
            return Err(refuse(format!("{name} is set twice"), fix.into()));
        }
        let text = written(value).ok_or_else(|| {
            let kind = value.type_str();
            let fix = format!(
                "write {name} as on the command line: a text in quotes, a number, true or false"
            );
            refuse(format!("{name} cannot be a value of type {kind}"), fix)
        })?;
        parse(std::iter::once((&**name, &*text)))
            .map_err(|error| refuse(said(&error), format!("correct {name} in the file")))?;
        settings.push((&**name, text));
    }
    Ok(settings)
}

/// A TOML value as it would be written on the command line.
fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(|v| v.as_str()).collect();
            Some(texts?.join(","))
        }
        _ => None,
    }
}

/// The name most like `key`, if one is like it at all.
fn closest<'a>(key: &str, names: &'a [String]) -> Option<&'a str> {
    let key = key.replace('_', "-");
    let common = |name: &str| {
        let start = name.chars().zip(key.chars()).take_while(|(a, b)| a == b);
        let end = name
            .chars()
            .rev()
            .zip(key.chars().rev())
            .take_while(|(a, b)| a == b);
        (start.count() + end.count()).min(name.len())
    };
    let best = names
        .iter()
        .max_by_key(|name| (common(name), std::cmp::Reverse(name.len())))?;
    (2 * common(best) >= key.len()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn flags(args: &[&str]) -> ArgMatches {
        command().try_get_matches_from(args).unwrap()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let pairs = pairs.iter();
        pairs
            .map(|(n, v)| ((*n).to_owned(), OsString::from(v)))
            .collect()
    }

    fn value(loaded: &Loaded, name: &str) -> (String, Origin) {
        let found = loaded.values.iter().find(|v| v.name == name);
        found.map(|v| (v.text.clone(), v.origin.clone())).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let file =
            file("grace = \"1s\"\npark = \"1s\"\nprobe_timeout = \"1s\"\nmax-connections = 7");
        let path = file.path().to_owned();
        let variables = variables(&[
            ("PYRYCODE_RELAY_GRACE", "2s"),
            ("PYRYCODE_RELAY_PARK", "2s"),
        ]);
        let loaded = load(&flags(&["--grace=3s"]), Some(&path), &variables).unwrap();
        let origin = Origin::Environment("PYRYCODE_RELAY_PARK".into());
        assert_eq!(value(&loaded, "grace"), ("3s".into(), Origin::Flag));
        assert_eq!(value(&loaded, "park"), ("2s".into(), origin));
        assert_eq!(
            value(&loaded, "probe-timeout"),
            ("1s".into(), Origin::File(path))
        );
        assert_eq!(value(&loaded, "boot-park"), ("30s".into(), Origin::Default));
        assert_eq!(loaded.settings.max_connections, Some(7));
        assert!(loaded.is_given("max-connections") && !loaded.is_given("boot-park"));
    }

    #[test]
    fn a_mistake_is_reported_where_it_was_made() {
        let refusal = |text: &str| load(&flags(&[]), Some(file(text).path()), &Variables::new());
        let said = |text: &str| refusal(text).err().unwrap().to_string();
        assert!(said("grase = \"1s\"").contains("did you mean grace?"));
        assert!(said("grace = 1.5").contains("grace cannot be a value of type float"));
        assert!(said("grace = \"soon\"").contains("soon"));
        assert!(said("\n\nx").contains("line 3"));
        assert!(said("[limits]").contains("unknown setting"));
        let twice = said("boot-park = \"1s\"\nboot_park = \"2s\"");
        assert!(twice.contains("boot-park is set twice"), "{twice}");
        let variables = variables(&[("PYRYCODE_RELAY_RATE_BURST", "many")]);
        let error = load(&flags(&[]), None, &variables)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("PYRYCODE_RELAY_RATE_BURST"), "{error}");
        let missing = load(
            &flags(&[]),
            Some(Path::new("/nowhere/x.toml")),
            &Variables::new(),
        );
        assert!(
            missing
                .err()
                .unwrap()
                .to_string()
                .contains("/nowhere/x.toml")
        );
    }

    #[test]
    fn a_value_that_means_nothing_is_refused_with_what_to_write() {
        for (flag, said) in [
            ("--grace=2years", "longer than a year"),
            ("--grace=soon", "write something like 500ms"),
            ("--probe-timeout=0s", "at least 1ms"),
            ("--phones-per-server=0", "at least 1"),
            ("--phones-per-server=few", "write a whole number"),
            ("--queue-bytes=1000", "at least 1048576"),
            ("--self-signed=maybe", "write true or false"),
            ("--trust-proxy=::ffff:10.0.0.0/104", "write it as IPv4"),
            ("--trust-proxy=proxy", "10.0.0.0/8 or 2001:db8::/32"),
        ] {
            let refused = command().try_get_matches_from([flag]).unwrap_err();
            assert!(refused.to_string().contains(said), "{flag}: {refused}");
        }
    }

    #[test]
    fn a_default_that_is_spelled_out_counts_as_given_only_in_a_flag() {
        let file = file("grace = \"30s\"\npark = \"1s\"");
        let flags = flags(&["--boot-park=30s"]);
        let loaded = load(&flags, Some(file.path()), &Variables::new()).unwrap();
        assert!(!loaded.is_given("grace"));
        assert!(loaded.is_given("park") && loaded.is_given("boot-park"));
    }

    #[test]
    fn an_empty_flag_chooses_something_only_in_place_of_a_default() {
        let flags = flags(&["--domain=", "--metrics-listen="]);
        let loaded = load(&flags, None, &Variables::new()).unwrap();
        assert!(!loaded.is_given("domain") && loaded.is_given("metrics-listen"));
        assert_eq!(value(&loaded, "domain"), (String::new(), Origin::Flag));
    }

    #[test]
    fn lists_may_be_arrays_and_strangers_in_the_environment_are_noticed() {
        let file = file("trust-proxy = [\"10.0.0.0/8\", \"::1\"]");
        let variables = variables(&[
            ("PYRYCODE_RELAY_GRAZE", "1s"),
            ("PYRYCODE_RELAY_PRODUCTION", "1"),
        ]);
        let loaded = load(&flags(&[]), Some(file.path()), &variables).unwrap();
        assert_eq!(loaded.settings.trust_proxy.len(), 2);
        assert_eq!(loaded.unknown_variables, ["PYRYCODE_RELAY_GRAZE"]);
    }
}
