//! The documents: their links lead somewhere, the files that they name exist, their configurations are valid, and they
//! name every key.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use carrot_actors::Config;
use carrot_actors::config::Environment;
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where a path in backticks is a file or a directory of this repository.
const PLACES: [&str; 6] = [
    "src/",
    "scripts/",
    "tests/",
    "docs/",
    "examples/",
    "migrations/",
];

/// The documents, by their paths in the repository.
fn documents() -> Vec<String> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<String> = names
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    all.sort();
    all.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned));
    all
}

fn text(document: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(document)).unwrap()
}

/// A document without its blocks of code.
fn prose(document: &str) -> String {
    let text = text(document);
    let outside = text.split("```").step_by(2);
    outside.collect()
}

/// The blocks of code in that language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = text(document);
    let blocks = text.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .map(str::to_owned)
        .collect()
}

/// What stands in backticks.
fn quoted(prose: &str) -> Vec<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

/// The destinations of inline links, `[text](destination)`.
fn links(prose: &str) -> Vec<&str> {
    let ends = prose.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// The anchors of a document's headings, by GitHub's rule: lower case; letters, digits, `-` and `_` stay; blanks become
/// `-`; everything else goes; a repeated one gets a number.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let prose = prose(document);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim();
            let kept = title.to_lowercase().replace(' ', "-");
            let kept = kept.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "");
            let before = times.entry(kept.clone()).or_default();
            *before += 1;
            match *before {
                1 => kept,
                more => format!("{kept}-{}", more - 1),
            }
        })
        .collect()
}

/// Why a link of that document leads nowhere, if it does.
fn fault_of(document: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        PathBuf::from(document)
    } else {
        Path::new(document).parent().unwrap().join(path)
    };
    let file = Path::new(ROOT).join(&target);
    if !file.exists() {
        return Some(format!("{document}: there is no {path}"));
    }
    let is_there = anchor.is_empty() || anchors(target.to_str().unwrap()).contains(anchor);
    (!is_there).then(|| format!("{document}: {} has no heading #{anchor}", target.display()))
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut count = 0;
    let mut faults = Vec::new();
    for document in documents() {
        let prose = prose(&document);
        let links = links(&prose);
        count += links.len();
        faults.extend(links.iter().filter_map(|link| fault_of(&document, link)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn every_document_is_linked_from_the_readme() {
    let prose = prose("README.md");
    let linked = links(&prose);
    for document in documents() {
        let is_linked = linked.contains(&document.as_str()) || document == "README.md";
        assert!(is_linked, "README.md does not link to {document}");
    }
}

#[test]
fn every_path_that_is_named_exists() {
    let mut faults = Vec::new();
    for document in documents() {
        for named in quoted(&prose(&document)) {
            let path = named.split_whitespace().next().unwrap_or_default();
            let is_ours = PLACES.iter().any(|place| path.starts_with(place));
            if is_ours && !Path::new(ROOT).join(path).exists() {
                faults.push(format!("{document} names {path}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rooms that the map names: the first cells of its first table, and paths of modules such as `store::liveness`.
fn rooms(architecture: &str) -> BTreeSet<String> {
    let rooms: BTreeSet<_> = floors(architecture).into_iter().collect();
    let starts_in_a_room = |path: &&str| {
        let (room, rest) = path.split_once("::").unwrap_or_default();
        let is_module = rest.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        rooms.contains(room) && is_module
    };
    let paths = quoted(architecture).into_iter().filter(starts_in_a_room);
    let paths: Vec<_> = paths.map(|path| path.replace("::", "/")).collect();
    rooms.iter().cloned().chain(paths).collect()
}

#[test]
fn every_room_of_the_map_is_a_module() {
    let rooms = rooms(&prose("ARCHITECTURE.md"));
    let is_there = |room: &&String| {
        let module = Path::new(ROOT).join("src").join(room);
        module.is_dir() || module.with_extension("rs").is_file()
    };
    let missing: Vec<_> = rooms.iter().filter(|room| !is_there(room)).collect();
    assert!(missing.is_empty(), "there are no modules {missing:?}");
    assert!(rooms.len() > 25, "{rooms:?}");
}

#[test]
fn every_directory_of_the_source_is_a_room_of_the_map() {
    let rooms = rooms(&prose("ARCHITECTURE.md"));
    for entry in fs::read_dir(Path::new(ROOT).join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".rs");
        let is_named = rooms.contains(name) || ["lib", "main", "internals"].contains(&name);
        assert!(is_named, "ARCHITECTURE.md does not name {name}");
    }
}

/// The rooms in the order of the map, from the top to the ground.
fn floors(architecture: &str) -> Vec<String> {
    let table = architecture.split("| room |").nth(1).unwrap();
    let rows = table.split("\n\n").next().unwrap().lines().skip(2);
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    cells.flat_map(quoted).map(str::to_owned).collect()
}

/// The Rust files of a directory, and of those in it.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The rooms that a file names after `crate::`, outside of its comments and its unit tests.
fn used_rooms(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let code: Vec<_> = code
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect();
    let code = code.join("\n");
    let mut used = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let end = path.find(|c: char| c != '_' && !c.is_ascii_lowercase());
        let (room, rest) = path.split_at(end.unwrap_or(path.len()));
        used.insert(room.to_owned());
        // `use crate::{actors, schedule};`
        if let Some(list) = rest.strip_prefix('{').filter(|_| room.is_empty()) {
            let list = list.split('}').next().unwrap();
            used.extend(list.split(',').map(|name| name.trim().to_owned()));
        }
    }
    used
}

#[test]
fn a_room_uses_only_rooms_that_the_map_has_below_it() {
    let floors = floors(&prose("ARCHITECTURE.md"));
    let floor = |room: &str| floors.iter().position(|other| other == room);
    let source = Path::new(ROOT).join("src");
    let mut faults = Vec::new();
    let mut arrows = 0;
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).unwrap();
        let first = path.components().next().unwrap().as_os_str();
        let room = first.to_str().unwrap().trim_end_matches(".rs");
        let is_test = path
            .iter()
            .any(|part| part == "tests" || part == "tests.rs");
        let Some(here) = floor(room).filter(|_| !is_test) else {
            continue;
        };
        for used in used_rooms(&file).iter().filter(|used| *used != room) {
            let Some(there) = floor(used) else { continue };
            arrows += 1;
            if there < here {
                faults.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(arrows > 300, "only {arrows} uses were found");
}

/// What the library makes of a configuration file: nothing, or what is wrong with it.
fn fault_of_configuration(text: &str) -> Option<String> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("carrot.toml");
    fs::write(&file, text).unwrap();
    let environment = Environment::default();
    let read = Config::load(Some(&file), &environment, directory.path());
    read.err().map(|error| error.to_string())
}

#[test]
fn the_configurations_of_the_documents_are_valid() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&document, "toml") {
            let fault = fault_of_configuration(&block);
            assert_eq!(fault, None, "{document}:\n{block}");
            count += 1;
        }
    }
    assert!(count > 4, "only {count} configurations were found");
}

/// Every table that the configuration knows, each with a key that it does not know.
const UNKNOWN: &str = "
    unknown_qqqqqqqq = 1
    default_broker = { unknown_qqqqqqqq = 1 }
    history = { completed = '7d', unknown_qqqqqqqq = 1 }
    [[queues]]
    name = 'q'
    unknown_qqqqqqqq = 1
    exchange_arguments = { unknown_qqqqqqqq = 1 }
    [tasks.t]
    command = ['true']
    unknown_qqqqqqqq = 1
";

/// The keys that the library knows, as it tells whoever gives it an unknown one; a set for each table.
fn known_keys() -> Vec<BTreeSet<String>> {
    let told = fault_of_configuration(UNKNOWN).unwrap();
    let tables = told
        .lines()
        .filter_map(|line| Some(line.split_once("known are ")?.1));
    let keys = |table: &str| table.split(", ").map(str::to_owned).collect();
    tables.map(keys).collect()
}

#[test]
fn every_key_of_the_configuration_is_described() {
    let tables = known_keys();
    assert_eq!(tables.len(), 6, "{tables:?}");
    let prose = prose("docs/configuration.md");
    // The first cells of tables.
    let cells = prose.lines().filter_map(|line| line.split('|').nth(1));
    let described: BTreeSet<&str> = cells.flat_map(quoted).collect();
    for key in tables.iter().flatten() {
        let is_described = described.contains(key.as_str());
        assert!(
            is_described,
            "docs/configuration.md does not describe {key}"
        );
    }
}
