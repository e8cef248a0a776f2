//! `chancery official watch`: what happens in a ceremony, as it happens, until it ends.

use std::{io::Write, time::Duration};

use chancery::client::{ClientError, ceremonies::CeremonyView, official::DirectoryError};
use clap::Args;

use super::{
    find::Wanted,
    place::{Place, wait},
    show,
};
use crate::cli::failure::Failure;

/// How often a lost connection is made again before giving up, and how long to wait between.
const RECONNECTS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(3);

const AFTER_HELP: &str = "\
Prints how the ceremony stands, and again each time that something happens. Ends when the ceremony ends; Ctrl-C ends it before. \
Nothing is signed.

Examples:
  chancery official watch 7f3a";

/// Watch a ceremony until it ends
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut directory = arguments.place.open()?;
    let keys = arguments.place.unlock(&directory)?;
    wait(async {
        let found = arguments.wanted.find(&mut directory, &keys, true).await?;
        let (visit, own) = (found.visit, directory.name().clone());
        // Watching may last for hours: other commands of this official must not wait for it.
        let directory = directory.unlocked();
        let path = format!("/v1/ceremonies/{}/events", found.told.id);
        let mut last = found.told;
        writeln!(out, "ceremony {}", last.id)?;
        show::standing(out, &last, &own)?;
        out.flush()?;
        let mut lost = 0;
        while last.view.phase != "ended" {
            let told = async {
                let mut events = visit.client().events(&path, None).await?;
                loop {
                    let Some(event) = events.next().await? else {
                        return Err(ClientError::Lost {
                            embassy: visit.client().embassy().clone(),
                            reason: "it ended the stream".to_owned(),
                        });
                    };
                    if let Ok(view) = serde_json::from_str::<CeremonyView>(&event.data)
                        && view != last.view
                    {
                        return Ok(view);
                    }
                }
            };
            match told.await {
                Ok(view) => {
                    lost = 0;
                    last = visit.told(&directory, view)?;
                    writeln!(out)?;
                    show::standing(out, &last, &own)?;
                    out.flush()?;
                }
                Err(error) if error.is_passing() && lost < RECONNECTS => {
                    lost += 1;
                    tokio::time::sleep(PAUSE).await;
                    // What happened meanwhile is asked for; events are only news.
                    if let Ok(now) = visit.ceremony(&directory, &last.id).await
                        && now.view != last.view
                    {
                        last = now;
                        writeln!(out)?;
                        show::standing(out, &last, &own)?;
                        out.flush()?;
                    }
                }
                Err(error) => return Err(DirectoryError::from(error).into()),
            }
        }
        Ok(())
    })
}
