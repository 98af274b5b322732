"""How many tokens images take, from their sizes alone."""

import PIL.Image


class ImageTokenCounter:
    """
    Tokens that the images of a row take, with all that the processor writes around and between them.

    Processors count from sizes alone, but not all of them count right: those of transformers 5.23 forget for Gemma 3
    what frames an image, and for LLaVA-OneVision that several images in a row get no tiles. A processor is believed
    for rows of so many images if it is right once; otherwise it is given blank images of each size.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.

    Returns, when called with the sizes of a row's images (`tuple` of `(height, width)`, in pixels), a number (`int`).
    """

    def __init__(self, processor):
        self.processor = processor
        self.believed = {}
        self.counts = {}

    def __call__(self, sizes):
        if sizes and sizes not in self.counts:
            if len(sizes) not in self.believed:
                example = ((480, 640),) * len(sizes)
                self.believed[len(sizes)] = self._stated(example) == self._processed(example)
            self.counts[sizes] = self._stated(sizes) if self.believed[len(sizes)] else self._processed(sizes)
        return self.counts[sizes] if sizes else 0

    def _stated(self, sizes):
        return sum(self.processor._get_num_multimodal_tokens(image_sizes=sizes)["num_image_tokens"])

    def _processed(self, sizes):
        images = [PIL.Image.new("RGB", (width, height)) for height, width in sizes]
        text = self.processor.image_token * len(sizes)
        inputs = self.processor(text=[text], images=[images], add_special_tokens=False, return_tensors="pt")
        return inputs["input_ids"].shape[1]
