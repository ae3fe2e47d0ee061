// allocator_model fuzz SEED STEPS [OPTIONS] [random] | threads SEED STEPS COUNT [OPTIONS]
//                 | scenario NAME | scenarios | measure
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda/allocator/programs.h"

int main(int argc, char **argv) {
  auto text = [&](int i) { return argc > i ? argv[i] : ""; };
  auto number = [&](int i) { return argc > i ? atol(argv[i]) : 0; };
  if (!strcmp(text(1), "fuzz")) {
    model::fuzz(uint64_t(number(2)), number(3), text(4), !strcmp(text(5), "random"));
  } else if (!strcmp(text(1), "threads")) {
    model::threads(uint64_t(number(2)), number(3), int(number(4)), text(5));
  } else if (!strcmp(text(1), "scenario")) {
    if (!model::scenario(text(2))) {
      fprintf(stderr, "no scenario %s\n", text(2));
      return 2;
    }
  } else if (!strcmp(text(1), "scenarios")) {
    model::list_scenarios();
  } else if (!strcmp(text(1), "measure")) {
    model::measure();
  } else {
    fprintf(stderr, "usage: see main.cpp\n");
    return 2;
  }
  return 0;
}
