"""CUDA computes the short integers in 32 or 64 bits and cuts the result off. Every integer functor of the
table gives the same either way; shown here on the host, over the very headers the kernels include."""

import itertools
import pathlib
import shutil
import subprocess

import pytest

import vibetensor as vt
from vibetensor._gen.cuda import functors, params
from vibetensor._gen.load import load

ROOT = pathlib.Path(__file__).parents[2]
SHORT = {"uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t"}
PROGRAM = """
#include <stdio.h>
#include <vector>
#include "vt/math.h"

namespace vt {

// Every value of a byte; of the wider types the extremes, small numbers and a spread between.
template <class T>
std::vector<int64_t> values() {
  std::vector<int64_t> v;
  const int64_t low = T(-1) < T(0) ? -(int64_t(1) << (8 * sizeof(T) - 1)) : 0;
  const int64_t high = low + (int64_t(1) << (8 * sizeof(T))) - 1;
  const int64_t step = sizeof(T) == 1 ? 1 : (high - low) / 60;
  for (int64_t x = low; x <= high; x += step) v.push_back(x);
  for (int64_t x = -9; x <= 9; x++) {
    if (x >= low) v.push_back(x);
    v.push_back(low + 9 + x);
    v.push_back(high - 9 + x);
  }
  return v;
}

template <class F>
int differs(const char *name, const char *type, const F &f) {
  const int wrong = f();
  if (wrong) printf("%s %s: %d\\n", name, type, wrong);
  return wrong != 0;
}

int run() {
  int bad = 0;
CHECKS
  return bad;
}

}  // namespace vt

int main() { return vt::run(); }
"""


def check(functor, op, short, wide):
    """Compares one functor in a short type with the same in a wide one."""
    inputs = [p.name in op.bools for p in op.tensors]
    numbers = params(op)
    loops = "".join(
        f"for (int64_t x{i} : {'std::vector<int64_t>{0, 1}' if is_bool else f'values<{short}>()'}) "
        for i, is_bool in enumerate(inputs)
    )
    loops += "".join(f"for (int64_t p{i} : {{-7, 0, 1, 3, 100}}) " for i in range(numbers))

    def arguments(t):
        given = [f"bool(x{i})" if b else f"{t}(x{i})" for i, b in enumerate(inputs)]
        # A parameter is converted to the loop's type first.
        return ", ".join(given + [f"{t}({short}(p{i}))" for i in range(numbers)])

    return (
        f'  bad |= differs("{functor}", "{short}", [] {{ int wrong = 0; {loops}'
        f"wrong += int64_t({functor}({arguments(short)})) != "
        f"int64_t(decltype({functor}({arguments(short)}))({functor}({arguments(wide)}))); return wrong; }});"
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not (ROOT / "cuda_src").is_dir(), reason="needs the sources")
def test_short_integers_in_wide_arithmetic(tmp_path):
    checks = []
    for functor, users in functors(load().OPS).items():
        have = {d for op in users for d in op.dtypes}
        # Three operands of every byte would take minutes; they are selections.
        if len(users[0].tensors) - len(users[0].bools) > 2:
            continue
        for (name, short), wide in itertools.product(SHORT.items(), ("int32_t", "int64_t")):
            if name in have and short != wide:
                checks.append(check(functor, users[0], short, wide))
    assert len(checks) > 100
    source = tmp_path / "short.cpp"
    source.write_text(PROGRAM.replace("CHECKS", "\n".join(checks)))
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        "-w",
        f"-I{ROOT / 'cuda_src'}",
        f"-I{vt.get_include()}",
        "-o",
        str(tmp_path / "short"),
        str(source),
    ]
    subprocess.run(command, check=True)
    ran = subprocess.run([str(tmp_path / "short")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
