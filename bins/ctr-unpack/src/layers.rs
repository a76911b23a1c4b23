// SPDX-License-Identifier: Apache-2.0
//! The layers of an image: what they must be, and their tars, one inflated ahead of the other.

use ctr_cli::Error;
use ctr_layer::{Limits, Stream};
use ctr_record::{Descriptor, DiffId, ErrorKind, Image};
use ctr_store::StateDir;
use ctr_store::content::{ContentError, ContentStore};
use serde::Deserialize;

use crate::interrupt::Interrupt;

const CONFIG_LIMIT: u64 = 8 << 20;

/// A layer as stored, and the digest that its tar must have.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: DiffId,
}

/// The layers of an image, lowest first.
pub(crate) struct Layers {
    content: ContentStore,
    limits: Limits,
    interrupt: Interrupt,
    layers: Vec<Layer>,
    /// The layer that is being inflated before its turn, so that no core waits for it at the end of
    /// another. It is only ever a few buffers ahead.
    ahead: Option<(usize, Stream)>,
}

/// What is read of an image config.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<DiffId>,
}

impl Layers {
    /// Checks that what the record says of the layers is what the image's config says.
    pub(crate) fn open(state: &StateDir, image: &Image, limits: Limits, interrupt: &Interrupt) -> Result<Self, Error> {
        let content = ContentStore::open(state)?;
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message));
        let digest = &image.config.digest;
        let config = content.read_blob(digest, CONFIG_LIMIT)?;
        let config = config.ok_or_else(|| ContentError::Absent { digest: digest.clone() })?;
        let rootfs = match serde_json::from_slice::<Config>(&config) {
            Ok(config) => config.rootfs,
            Err(error) => return invalid(format!("config {digest} is no image config: {error}")),
        };
        if rootfs.kind != "layers" {
            return invalid(format!("config {digest} has a root file system of the type {:?}", rootfs.kind));
        }
        if rootfs.diff_ids != image.diff_ids {
            return invalid(format!("the record's diffIds are not those of config {digest}"));
        }
        match (image.layers.len(), image.diff_ids.len()) {
            (0, 0) => return invalid("the image has no layers".to_owned()),
            (layers, ids) if layers != ids => {
                return invalid(format!("the image has {layers} layers, and diffIDs of {ids}"));
            }
            _ => {}
        }
        let pairs = image.layers.iter().cloned().zip(image.diff_ids.iter().cloned());
        let layers = pairs.map(|(descriptor, diff_id)| Layer { descriptor, diff_id }).collect();
        Ok(Self { content, limits, interrupt: interrupt.clone(), layers, ahead: None })
    }

    pub(crate) fn all(&self) -> &[Layer] {
        &self.layers
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Begins to inflate a layer, if there is one of that number.
    pub(crate) fn begin(&mut self, number: usize) -> Result<(), Error> {
        if self.ahead.as_ref().is_none_or(|(begun, _)| *begun != number) && number < self.layers.len() {
            self.ahead = Some((number, self.open_stream(number)?));
        }
        Ok(())
    }

    /// A layer's tar.
    pub(crate) fn take(&mut self, number: usize) -> Result<Stream, Error> {
        match self.ahead.take_if(|(begun, _)| *begun == number) {
            Some((_, stream)) => Ok(stream),
            None => self.open_stream(number),
        }
    }

    fn open_stream(&self, number: usize) -> Result<Stream, Error> {
        let Layer { descriptor, diff_id } = &self.layers[number];
        let blob = self.content.open_blob(&descriptor.digest)?;
        let size = blob.metadata()?.len();
        if size != descriptor.size {
            let message = format!("its blob has {size} bytes, and {} by its descriptor", descriptor.size);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Stream::open(self.interrupt.source(blob), diff_id.0.algorithm(), &self.limits)?)
    }
}
