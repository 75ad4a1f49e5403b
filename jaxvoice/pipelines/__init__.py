"""What a user calls: a vocoder that turns mel spectrograms or recordings into speech."""

from jaxvoice.pipelines.vocoder import Vocoder as Vocoder
