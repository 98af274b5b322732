"""torch's FSDP runs on CPUs, but accelerate 1.15 looks for it only where there is another device."""

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


def allow_fsdp_on_cpus():
    """Let accelerate start FSDP, if the launch asks for it, as it would on GPUs."""
    start = AcceleratorState.__init__

    def with_fsdp(self, *args, fsdp_plugin=None, **kwargs):
        start(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = self.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = with_fsdp
