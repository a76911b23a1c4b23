// SPDX-License-Identifier: Apache-2.0
//! Blobs from an origin into the store, several at a time, each verified while it streams.
//!
//! The runtime's one thread only moves bytes from sockets to bounded channels; hashing, writing and
//! waiting for other processes happen on threads of their own.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use ctr_record::{Classify, Descriptor, ErrorKind, Reference};
use ctr_registry::Client;
use ctr_store::StoreError;
use ctr_store::content::{ContentError, ContentStore, Ingest};
use tokio::select;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};

use crate::layout::{Layout, LayoutError};
use crate::origin::Origin;
use crate::progress::{Bar, Progress};

/// Chunks between a socket and its writer. A chunk is what one read of the socket brings.
const CHUNKS_AHEAD: usize = 4;
const COPY_BUFFER: usize = 256 * 1024;

/// A blob that did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Registry(#[from] ctr_registry::Error),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another blob of the image failed")]
    Stopped,
}

impl Classify for TransferError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Content(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Stopped => ErrorKind::Temporary,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Content(error) => error.hint(),
            _ => None,
        }
    }
}

/// What the transfers of an image tell one another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Signal {
    Go,
    /// One has failed. What is there is left for the next try.
    Stop,
    /// The disk is full: it is not to stay full of parts of an image.
    StopAndDiscard,
}

/// Everything that the transfers of an image share.
#[derive(Clone)]
struct Transfer {
    origin: Origin,
    store: ContentStore,
    progress: Progress,
    places: Arc<Semaphore>,
    signal: watch::Receiver<Signal>,
}

/// Brings blobs into the store. The ones that are new are returned in any case.
///
/// The first failure ends the others.
pub(crate) async fn bring(
    origin: &Origin,
    store: &ContentStore,
    descriptors: &[Descriptor],
    jobs: usize,
    progress: &Progress,
) -> (Vec<Descriptor>, Result<(), TransferError>) {
    let (stop, signal) = watch::channel(Signal::Go);
    let transfer = Transfer {
        origin: origin.clone(),
        store: store.clone(),
        progress: progress.clone(),
        places: Arc::new(Semaphore::new(jobs)),
        signal,
    };
    let mut transfers = JoinSet::new();
    // A layer may occur more than once in an image.
    let mut seen = HashSet::new();
    for descriptor in descriptors.iter().filter(|wanted| seen.insert((&wanted.digest, wanted.size))) {
        let (mut transfer, descriptor) = (transfer.clone(), descriptor.clone());
        transfers.spawn(async move {
            let is_new = transfer.run(&descriptor).await?;
            Ok::<_, TransferError>(is_new.then_some(descriptor))
        });
    }
    let mut new = Vec::new();
    let mut failure = None;
    while let Some(outcome) = transfers.join_next().await {
        match outcome.expect("a transfer neither panics nor is cancelled") {
            Ok(descriptor) => new.extend(descriptor),
            Err(error) if failure.is_none() => {
                stop.send_replace(if is_disk_full(&error) { Signal::StopAndDiscard } else { Signal::Stop });
                failure = Some(error);
            }
            Err(_) => {}
        }
    }
    (new, failure.map_or(Ok(()), Err))
}

impl Transfer {
    async fn run(&mut self, descriptor: &Descriptor) -> Result<bool, TransferError> {
        let places = self.places.clone();
        if self.store.contains(descriptor)? {
            return Ok(false);
        }
        let _place = places.acquire().await.expect("the semaphore is never closed");
        let bar = self.progress.begin(descriptor);
        loop {
            bar.say("waiting");
            let Some(ingest) = self.begin(descriptor).await? else { return Ok(false) };
            bar.say("");
            bar.set(ingest.written());
            let ingest = match self.origin.clone() {
                Origin::Registry { client, reference } => {
                    self.download(&client, &reference, descriptor, ingest, &bar).await?
                }
                Origin::Layout(layout) => copy(layout, descriptor.clone(), ingest).await?,
            };
            bar.say("syncing");
            match blocking(move || ingest.commit()).await {
                Ok(()) => return Ok(true),
                // A prefix from before a power cut was wrong, and is gone now.
                Err(ContentError::Digest { resumed: true, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    // Another process may be at this blob, for as long as it takes.
    async fn begin(&mut self, descriptor: &Descriptor) -> Result<Option<Ingest>, TransferError> {
        let (store, descriptor) = (self.store.clone(), descriptor.clone());
        select! {
            biased;
            _ = self.signal.wait_for(|signal| *signal != Signal::Go) => Err(TransferError::Stopped),
            ingest = blocking(move || store.ingest(&descriptor)) => Ok(ingest?),
        }
    }

    async fn download(
        &mut self,
        client: &Client,
        reference: &Reference,
        descriptor: &Descriptor,
        mut ingest: Ingest,
        bar: &Bar,
    ) -> Result<Ingest, TransferError> {
        let mut position = ingest.written();
        let mut stream = client.fetch_blob(reference, descriptor, position);
        let (chunks, mut received) = mpsc::channel(CHUNKS_AHEAD);
        let writer = spawn_blocking(move || {
            while let Some(chunk) = received.blocking_recv() {
                ingest.write(AsRef::<[u8]>::as_ref(&chunk))?;
            }
            Ok::<_, ContentError>(ingest)
        });
        let outcome = loop {
            let chunk = select! {
                biased;
                _ = self.signal.wait_for(|signal| *signal != Signal::Go) => break Err(TransferError::Stopped),
                chunk = stream.chunk() => chunk,
            };
            match chunk {
                Ok(Some(chunk)) => {
                    position += chunk.len() as u64;
                    bar.set(position);
                    // The writer has ended: it says why.
                    if chunks.send(chunk).await.is_err() {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        drop(chunks);
        let ingest = writer.await.expect("writing does not panic")?;
        match outcome {
            Ok(()) => Ok(ingest),
            Err(error) => {
                if *self.signal.borrow() == Signal::StopAndDiscard {
                    ingest.discard();
                }
                Err(error)
            }
        }
    }
}

async fn copy(layout: Arc<Layout>, descriptor: Descriptor, mut ingest: Ingest) -> Result<Ingest, TransferError> {
    blocking(move || {
        // What is there of the blob is from another time and perhaps another file.
        ingest.restart()?;
        let mut file = layout.open_blob(&descriptor)?;
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            match file.read(&mut buffer).map_err(|error| layout.read_error(&descriptor, error))? {
                0 => return Ok(ingest),
                n => ingest.write(&buffer[..n])?,
            }
        }
    })
    .await
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    spawn_blocking(work).await.expect("the store does not panic")
}

fn is_disk_full(error: &TransferError) -> bool {
    match error {
        TransferError::Content(ContentError::Store(StoreError::Io { source, .. })) => {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        }
        _ => false,
    }
}
