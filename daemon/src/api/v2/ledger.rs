//! `/v2/ledger`: is everything there that was written, and a copy of it.
//!
//! A backup goes through the caller: nobody names a path of this machine. It holds everybody's
//! figures, and what is damaged is named with its scopes: both are for administrators, whatever a
//! rule allows.

use std::sync::Arc;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::schema::Parameters;
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::api::policy::{self, Action};
use crate::ledger::{
    BACKUP_PIECE_SIZE_MAX, BackupPart, BackupRead, Finding, Ledger, LedgerError, hex,
};

const FROM: &[Input] = &[Input::new(
    "from",
    Kind::Schema(position_schema),
    "What the step before gave as `next`; default: the begin.",
)];

fn position_schema() -> Value {
    let stages = "seals|records|files|slices|sums|staged|generations";
    let pattern = format!(r"^({stages})\.([0-9a-f]{{2}})*\.[0-9]{{1,18}}$");
    json!({"type": "string", "pattern": pattern})
}

const PIECE: &[Input] = &[
    Input::integer("offset", 0, "Where to begin, bytes.").default("0"),
    Input::integer("size", 0, "How many bytes, at most 4 MiB.").default("4194304"),
];

const BEGINNING: &[Input] = &[
    Input::text("file", "Of this data file; default: of the records."),
    Input::integer("size", 0, "How many bytes from the begin.").required(),
];

const OCTETS: &str = "application/octet-stream";

fn check_sight(call: &Call, action: &'static Action) -> Result<(), Failure> {
    if call.sight == Sight::Everything { Ok(()) } else { Err(Failure::Forbidden(action)) }
}

pub(crate) async fn verify(context: &Context, call: &Call) -> Result<Answer, Failure> {
    check_sight(call, &policy::VERIFY_LEDGER)?;
    let parameters = Parameters::read(call, FROM)?;
    let from = parameters.single("from")?.map(str::to_owned);
    let step = context.ledger(move |ledger| ledger.verify(from.as_deref())).await?;
    Ok(Answer::document(json!({
        "findings": step.findings.iter().map(show_finding).collect::<Vec<_>>(),
        "next": step.next,
        "bytes_done": step.bytes_done,
        "bytes_total": step.bytes_total,
    })))
}

/// As whoever looks at a ledger without a daemon shows it, too.
pub(crate) fn show_finding(finding: &Finding) -> Value {
    let scopes = finding.scopes.as_ref();
    json!({
        "place": finding.place,
        "detail": finding.detail,
        "file": finding.file,
        "begin": finding.period.map(|period| dates::zoned(period.begin())),
        "end": finding.period.map(|period| dates::zoned(period.end())),
        "metric": finding.metric,
        "first_scope_id": scopes.map(|(first, _)| first),
        "last_scope_id": scopes.map(|(_, last)| last),
        "remedy": finding.remedy.text(),
    })
}

pub(crate) async fn begin_backup(context: &Context, call: &Call) -> Result<Answer, Failure> {
    check_sight(call, &policy::BACK_UP_LEDGER)?;
    let now = context.clock.now();
    let begin = move |ledger: &dyn Ledger| Ok((ledger.begin_backup(now)?, ledger.libraries()?));
    let (plan, rated) = context.ledger(begin).await?;
    let plugins = Arc::clone(&context.plugins);
    let kept = context.block(move || Ok::<_, Failure>(plugins.kept_libraries(&rated))).await?;
    let files = plan.files.iter().map(|(name, size)| json!({"name": name, "size": size}));
    let libraries = kept.iter().map(
        |library| json!({"name": library.name, "sha256": library.sha256, "size": library.size}),
    );
    let plan = json!({
        "id": plan.id.to_string(),
        "taken_at": dates::zoned(now),
        "change": plan.change,
        "format": plan.format,
        "records_size": plan.records_size,
        "files": files.collect::<Vec<_>>(),
        "libraries": libraries.collect::<Vec<_>>(),
    });
    Ok(Answer::with_status(StatusCode::CREATED, AnswerBody::Document(plan)))
}

pub(crate) async fn end_backup(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let id = id(call)?;
    context.ledger(move |ledger| ledger.end_backup(id)).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn records(context: &Context, call: &Call) -> Result<Answer, Failure> {
    piece(context, call, BackupPart::Records).await
}

pub(crate) async fn file(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let name = call.capture(1).unwrap_or_default().to_owned();
    piece(context, call, BackupPart::File(name)).await
}

/// A library that rated something: what is rated again as it was needs it.
pub(crate) async fn library(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let id = id(call)?;
    let sha256 = call.capture(1).unwrap_or_default().to_owned();
    let parameters = Parameters::read(call, PIECE)?;
    let offset = bytes(&parameters, "offset")?.unwrap_or(0);
    let size = bytes(&parameters, "size")?.unwrap_or(BACKUP_PIECE_SIZE_MAX);
    let size = usize::try_from(size.min(BACKUP_PIECE_SIZE_MAX)).expect("some MiB");
    // Nothing of the ledger, so that the backup is known to be read.
    let (part, now) = (BackupPart::Records, context.clock.now());
    let read = BackupRead { id, part, offset: 0, size: 0, now };
    context.ledger(move |ledger| ledger.read_backup(&read)).await?;
    let plugins = Arc::clone(&context.plugins);
    let read = context.block(move || {
        let bytes = plugins.read_kept_library(&sha256, offset, size);
        let bytes = bytes.ok_or_else(|| Failure::not_found(format!("no library {sha256}")))?;
        bytes.map_err(|error| Failure::from(LedgerError::Store(error.into())))
    });
    Ok(Answer::text(OCTETS, read.await?))
}

async fn piece(context: &Context, call: &Call, part: BackupPart) -> Result<Answer, Failure> {
    let id = id(call)?;
    let parameters = Parameters::read(call, PIECE)?;
    let offset = bytes(&parameters, "offset")?.unwrap_or(0);
    let size = bytes(&parameters, "size")?.unwrap_or(BACKUP_PIECE_SIZE_MAX);
    let read = BackupRead { id, part, offset, size, now: context.clock.now() };
    let bytes = context.ledger(move |ledger| ledger.read_backup(&read)).await?;
    Ok(Answer::text(OCTETS, bytes))
}

pub(crate) async fn digest(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let id = id(call)?;
    let parameters = Parameters::read(call, BEGINNING)?;
    let file = parameters.single("file")?;
    let part = file.map_or(BackupPart::Records, |name| BackupPart::File(name.to_owned()));
    let size = bytes(&parameters, "size")?
        .ok_or_else(|| parameters.refuse("size", "required key not provided"))?;
    let read = BackupRead { id, part, offset: 0, size, now: context.clock.now() };
    let digest = context.ledger(move |ledger| ledger.backup_digest(&read)).await?;
    Ok(Answer::document(json!({"sha256": hex(&digest)})))
}

fn bytes(parameters: &Parameters, name: &str) -> Result<Option<u64>, Failure> {
    let Some(number) = parameters.integer(name)? else { return Ok(None) };
    let number = u64::try_from(number);
    number.map(Some).map_err(|_| parameters.refuse(name, "value must be at least 0"))
}

/// Of a backup, if it may be read.
fn id(call: &Call) -> Result<u64, Failure> {
    check_sight(call, &policy::BACK_UP_LEDGER)?;
    let text = call.capture(0).unwrap_or_default();
    text.parse().map_err(|_| Failure::not_found(format!("there is no backup {text}")))
}

pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{BEGINNING, FROM, OCTETS, PIECE};
    use crate::api::openapi::{Input, Kind, Operation, named, schemas};

    const ID: Input = Input::text("id", "What the begin of the backup gave.");
    const NAME: Input = Input::text("name", "The name of a data file.");
    const LIBRARY: Input = Input::new("sha256", Kind::Schema(sha256), "The checksum of a library.");

    fn sha256() -> Value {
        json!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
    }

    fn finding() -> Value {
        let or_null = |text: &str| json!({"type": ["string", "null"], "description": text});
        let members = json!({
            "place": {"type": "string", "description": "what is damaged, for people"},
            "detail": {"type": "string", "description": "how"},
            "file": or_null("below the ledger's folder"),
            "begin": schemas::date_or_null(),
            "end": schemas::date_or_null(),
            "metric": or_null("its name"),
            "first_scope_id": or_null("the first scope that it may be about"),
            "last_scope_id": or_null("the last one"),
            "remedy": {"type": "string", "description": "what can be done about it"},
        });
        named("V2Finding", &schemas::record(&members))
    }

    fn size() -> Value {
        json!({"type": "integer", "minimum": 0})
    }

    pub(crate) fn verify() -> Operation {
        let members = json!({
            "findings": schemas::list(&finding()),
            "next": {"type": ["string", "null"], "description": "null: that was all"},
            "bytes_done": size(),
            "bytes_total": size(),
        });
        Operation::new("A step of looking whether the ledger is whole")
            .says(
                "Reads some MiB of what is stored and compares it with its checksums and sums. \
                 `rated ledger verify` goes through all of it.",
            )
            .inputs(FROM)
            .answers(200, "what was found", schemas::record(&members))
            .refuses(400, "no such place")
    }

    pub(crate) fn begin_backup() -> Operation {
        let file = schemas::record(&json!({"name": {"type": "string"}, "size": size()}));
        let library = json!({"name": {"type": "string"}, "sha256": sha256(), "size": size()});
        let library = schemas::record(&library);
        let members = json!({
            "id": {"type": "string"},
            "taken_at": schemas::date(),
            "change": size(),
            "format": size(),
            "records_size": size(),
            "files": schemas::list(&file),
            "libraries": schemas::list(&library),
        });
        Operation::new("Begin a backup of the ledger as it is now")
            .says(
                "Its parts can be read until it is ended, another one is begun or nobody has read \
                 for a quarter of an hour. `rated ledger backup` does all of it.",
            )
            .answers(201, "what it consists of", schemas::record(&members))
    }

    pub(crate) fn end_backup() -> Operation {
        Operation::new("End a backup")
            .inputs(&[ID])
            .answers_empty(204, "it is ended")
            .refuses(404, "no such backup")
    }

    fn octets(operation: Operation) -> Operation {
        let forms = vec![(OCTETS, json!({"type": "string", "format": "binary"}))];
        operation.answers_with(200, "the bytes; fewer at the end", forms)
    }

    pub(crate) fn records() -> Operation {
        octets(Operation::new("Some bytes of a backup's records").inputs(&[ID]).inputs(PIECE))
            .refuses(404, "no such backup")
    }

    pub(crate) fn file() -> Operation {
        octets(Operation::new("Some bytes of a backup's file").inputs(&[ID, NAME]).inputs(PIECE))
            .refuses(404, "no such backup or file")
    }

    pub(crate) fn library() -> Operation {
        octets(Operation::new("Some bytes of a library that rated something"))
            .inputs(&[ID, LIBRARY])
            .inputs(PIECE)
            .refuses(404, "no such backup or library")
    }

    pub(crate) fn digest() -> Operation {
        let members = schemas::record(&json!({"sha256": {"type": "string"}}));
        Operation::new("The checksum of what a part of a backup begins with")
            .inputs(&[ID])
            .inputs(BEGINNING)
            .answers(200, "the checksum", members)
            .refuses(404, "no such backup or file")
    }
}
