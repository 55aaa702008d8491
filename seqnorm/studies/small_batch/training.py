"""Training of one network of the study, on images or on texts."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from seqnorm.models import ImageClassifier, TextClassifier
from seqnorm.nn import reestimate_statistics
from seqnorm.studies.remedied_training import before_step, built
from seqnorm.studies.texts import Texts, classifier, reestimate

from .data import CLASSES, DigitsOnPhotographs


@dataclass(frozen=True)
class Run:
    """Training of one network."""

    norm: str
    batch: int  # examples in a step of the optimiser
    # Number of examples whose statistics BatchNorm takes together; None for the whole batch. Groups
    # of documents go through the network one after the other before the optimiser's step.
    group: int | None
    # For images, the rate of a batch of 32; the rate of another batch is in proportion (Goyal et
    # al. 2017, as in Wu & He 2018, sec. 4.1).
    rate: float
    epochs: int
    features: int  # width of the network of images, embedding and hidden size of that of texts
    seed: int
    # Give every document twice. BatchNorm of a single document then has no statistics but those of
    # its row: the row as mean and 0 as variance.
    twice: bool = False

    def image_classifier(self, group: int | None) -> ImageClassifier:
        norm = built(self.norm)
        return ImageClassifier(1, CLASSES, norm=norm, width=self.features, group_size=group)

    def train_images(self, task: DigitsOnPhotographs) -> tuple[ImageClassifier, float, Tensor]:
        """Train with SGD and momentum, the rate falling to 0 as a cosine.

        Return the network, and the mean loss and the images of the last epoch.
        """
        torch.manual_seed(self.seed)
        model = self.image_classifier(self.group)
        generator = torch.Generator().manual_seed(self.seed)
        rate = self.rate * self.batch / 32
        optimiser = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-4)
        model.train()
        for epoch in range(self.epochs):
            images, classes = task.epoch(generator)
            # A smaller last batch would have statistics of another kind, so it is left out.
            steps = len(images) // self.batch
            order = torch.randperm(len(images), generator=generator)[: steps * self.batch]
            total = 0.0
            anew = partial(reestimate_statistics, model, images.split(100), estimate="average")
            for step, chosen in enumerate(order.split(self.batch)):
                progress = (epoch + step / steps) / self.epochs
                before_step(self.norm, model, epoch * steps + step, steps * self.epochs, anew)
                optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * progress)) / 2
                loss = F.cross_entropy(model(images[chosen]), classes[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
        return model, total / steps, images

    def train_texts(self, texts: Texts) -> tuple[TextClassifier, float]:
        """Train an LSTM with Adam at a constant rate, every epoch in another random order.

        Return the network and the mean loss of the last epoch.
        """
        torch.manual_seed(self.seed)
        sizes = {"embedding": self.features, "hidden": self.features}
        model = classifier(texts, self.norm, max_steps=None, **sizes)
        with warnings.catch_warnings():
            if self.batch == 1:
                # The study measures that BatchNorm cannot use a single row.
                warnings.filterwarnings("ignore", "BatchNorm in training on 1 row")
            return model, self._train(model, texts)

    def _train(self, model: TextClassifier, texts: Texts) -> float:
        optimiser = torch.optim.Adam(model.parameters(), self.rate)
        generator = torch.Generator().manual_seed(self.seed)
        steps = len(texts.train) // self.batch
        anew = partial(reestimate, model, texts.train)
        model.train()
        for epoch in range(self.epochs):
            order = torch.randperm(len(texts.train), generator=generator)[: steps * self.batch]
            total = 0.0
            for step, chosen in enumerate(order.split(self.batch), epoch * steps):
                before_step(self.norm, model, step, steps * self.epochs, anew)
                optimiser.zero_grad()
                for group in chosen.split(self.group or self.batch):
                    batch = texts.train.batch(group.tolist() * (1 + self.twice))
                    logits = model(batch.tokens, batch.lengths)
                    loss = F.cross_entropy(logits, batch.labels, reduction="sum")
                    loss = loss / (self.batch * (1 + self.twice))
                    loss.backward()
                    total += loss.item()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
        return total / steps
