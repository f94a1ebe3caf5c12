//! Items of tasks, from a file: checked first where it can be read twice, then sent in chunks.

use std::path::PathBuf;

use phalanx::Client;
use phalanx_protocol::job::{InputChunk, InputTable};
use phalanx_protocol::{Inputs, codec};

use crate::inputs::{Chunk, Chunks, InputsError, JsonList, is_rereadable};
use crate::ui::error::CliError;

/// A file with an item for each task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Items {
    /// Each line is a JSON value.
    JsonLines(PathBuf),
    /// The same, or one JSON list.
    Json(PathBuf),
    /// Each line is a text.
    Lines(PathBuf),
}

impl Items {
    /// Finds bad items before anything was sent.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match is_rereadable(self.path()) {
            true => Ok(self.chunks()?.try_for_each(|chunk| chunk.map(drop))?),
            false => Ok(()),
        }
    }

    /// Sends all items; returns where they are, and how many.
    pub(super) async fn send(&self, client: &Client) -> Result<(Inputs, u64), CliError> {
        let mut table = InputTable::default();
        for chunk in self.chunks()? {
            let Chunk { items, bytes } = chunk?;
            let blob = client.ensure_blob(&bytes).await?;
            table.chunks.push(InputChunk { items, blob });
        }
        let tasks = table.chunks.last().map_or(0, |chunk| chunk.items.end);
        let table = client.ensure_blob(&codec::encode(&table)).await?;
        Ok((Inputs::Items { table }, tasks))
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::JsonLines(path) | Self::Json(path) | Self::Lines(path) => path,
        }
    }

    fn chunks(&self) -> Result<Box<dyn Iterator<Item = Result<Chunk, InputsError>>>, InputsError> {
        Ok(match self {
            Self::JsonLines(path) => Box::new(Chunks::open(path)?),
            Self::Lines(path) => Box::new(Chunks::open_text(path)?),
            Self::Json(path) => match JsonList::open(path)? {
                Some(list) => Box::new(list),
                None => Box::new(Chunks::open(path)?),
            },
        })
    }
}
