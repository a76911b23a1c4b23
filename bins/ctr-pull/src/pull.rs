// SPDX-License-Identifier: Apache-2.0
//! One image from its origin into the store: manifest, config, layers, and last its name.

use ctr_cli::Error;
use ctr_record::{Descriptor, ErrorKind, Image, Payload, Platform};
use ctr_registry::{Content, ImageConfig, ImageManifest, MANIFEST_LIMIT, Manifest};
use ctr_store::StateDir;
use ctr_store::content::ContentStore;
use ctr_store::event::EventLog;
use ctr_store::index::{Change, ImageIndex};

use crate::origin::Origin;
use crate::progress::Progress;
use crate::request::Source;
use crate::transfer;

/// An index may list indexes; this deep, an image is found or there is none.
const NESTING: usize = 4;

/// The store that images are pulled into.
pub(crate) struct Puller<'a> {
    state: StateDir,
    namespace: &'a str,
    content: ContentStore,
    jobs: usize,
    progress: &'a Progress,
}

impl<'a> Puller<'a> {
    pub(crate) fn open(
        state: StateDir,
        namespace: &'a str,
        jobs: usize,
        progress: &'a Progress,
    ) -> Result<Self, Error> {
        let content = ContentStore::open(&state)?;
        Ok(Self { state, namespace, content, jobs, progress })
    }

    /// Pulls an image. Its name is given last: a name that is there is of an image that is whole.
    pub(crate) async fn pull(&self, origin: &Origin, source: &Source, wanted: &Platform) -> Result<Image, Error> {
        let (manifest, chosen) = self.find(origin, wanted).await?;
        let Content::Image(image) = manifest.content() else { unreachable!("find ends at an image") };
        image.check_image()?;
        let config = self.bring_config(origin, image).await?;
        if (&config.platform.os, &config.platform.architecture) != (&wanted.os, &wanted.architecture) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("the image is for {}, not for {wanted}", config.platform),
            )
            .with_hint(format!("--platform {}", config.platform)));
        }
        self.bring(origin, &image.layers).await?;

        let platform = chosen.map_or(config.platform, |chosen| {
            Platform::new(&chosen.os, &chosen.architecture, chosen.variant.as_deref())
        });
        self.name(&source.index_name(&manifest.descriptor().digest), manifest.descriptor(), &platform)?;
        Ok(Image {
            reference: source.text(),
            manifest: manifest.descriptor().clone(),
            config: image.config.clone(),
            layers: image.layers.clone(),
            diff_ids: config.diff_ids,
            platform,
            extra: Default::default(),
        })
    }

    // Descends from what the source names to one image, by way of indexes; with the platform that an
    // index gives it.
    async fn find(&self, origin: &Origin, wanted: &Platform) -> Result<(Manifest, Option<Platform>), Error> {
        let mut manifest = origin.resolve(&self.content).await?;
        let mut platform = None;
        for _ in 0..NESTING {
            self.keep(&manifest)?;
            let chosen = match manifest.content() {
                Content::Image(_) => return Ok((manifest, platform)),
                Content::Index(index) => index.select(wanted)?,
            };
            manifest = origin.manifest(&self.content, &chosen).await?;
            platform = chosen.platform;
        }
        Err(Error::new(ErrorKind::Invalid, "the indexes that lead to the image are nested too deep"))
    }

    async fn bring_config(&self, origin: &Origin, image: &ImageManifest) -> Result<ImageConfig, Error> {
        if image.config.size > MANIFEST_LIMIT as u64 {
            let message = format!("the image config has {} bytes, more than {MANIFEST_LIMIT}", image.config.size);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.bring(origin, std::slice::from_ref(&image.config)).await?;
        let digest = &image.config.digest;
        let bytes = self.content.read_blob(digest, MANIFEST_LIMIT as u64)?;
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("blob {digest} has been removed")))?;
        Ok(ImageConfig::parse(&bytes, image.layers.len())?)
    }

    async fn bring(&self, origin: &Origin, descriptors: &[Descriptor]) -> Result<(), Error> {
        let (new, outcome) = transfer::bring(origin, &self.content, descriptors, self.jobs, self.progress).await;
        self.announce(&new)?;
        Ok(outcome?)
    }

    fn keep(&self, manifest: &Manifest) -> Result<(), Error> {
        match self.content.write_blob(manifest.descriptor(), manifest.bytes())? {
            true => self.announce(std::slice::from_ref(manifest.descriptor())),
            false => Ok(()),
        }
    }

    fn announce(&self, new: &[Descriptor]) -> Result<(), Error> {
        for Descriptor { digest, size, media_type, .. } in new {
            self.record(Payload::ContentCreate {
                digest: digest.clone(),
                size: *size,
                media_type: media_type.clone(),
            })?;
        }
        Ok(())
    }

    fn name(&self, name: &str, manifest: &Descriptor, platform: &Platform) -> Result<(), Error> {
        let target = Descriptor { platform: Some(platform.clone()), ..manifest.clone() };
        let change = ImageIndex::open(&self.state, self.namespace)?.set(name, &target)?;
        let name = name.to_owned();
        match change {
            Change::Created => self.record(Payload::ImageCreate { name, target }),
            Change::Updated => self.record(Payload::ImageUpdate { name, target }),
            Change::Unchanged => Ok(()),
        }
    }

    fn record(&self, payload: Payload) -> Result<(), Error> {
        EventLog::open(&self.state)?.append(self.namespace, payload)?;
        Ok(())
    }
}
