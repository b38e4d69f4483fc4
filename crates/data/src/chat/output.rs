//! A file that appears when all of it is written.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Writes beside the place of a file, and takes that place at the end. What is not finished is removed.
pub(super) struct Output {
    path: PathBuf,
    partial: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = path.with_file_name(name);
        let file = File::create_new(&partial).map_err(Error::output(path))?;
        Ok(Self { path: path.into(), partial, writer: Some(BufWriter::new(file)) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(bytes)).map_err(Error::output(&self.path))
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        let failed = || Error::output(&self.path);
        if let Some(writer) = self.writer.take() {
            let file = writer.into_inner().map_err(|error| failed()(error.into_error()))?;
            file.sync_all().map_err(failed())?;
        }
        fs::rename(&self.partial, &self.path).map_err(failed())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Nothing is there to remove once it is finished.
        drop(self.writer.take());
        let _ = fs::remove_file(&self.partial);
    }
}
