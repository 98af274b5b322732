from trl_mm.bench import dpo
from trl_mm.bench.dpo_config import DPOBenchmark
from trl_mm.bench.memory import peak_memory


def test_memory_is_that_of_a_process_of_its_own():
    settings = DPOBenchmark(size="tiny", image_size=["56x56"], response_tokens=[4, 9], rounds=1)
    assert peak_memory(dpo.make_trainer, dpo.OURS, settings) > 1e6
