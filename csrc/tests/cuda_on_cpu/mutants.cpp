// Switches the mutants of csrc/tests/cuda/mutate.py, which are all compiled into one program. Without sanitizers.
//   DRPM_MUTANT = id    that mutant is active
//   DRPM_REACHED = file gets the ids of the mutants that the program came by, one a line
#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kMost = 1 << 14;

struct Mutants {
  int active = -1;
  const char* reached_file = std::getenv("DRPM_REACHED");
  unsigned char reached[kMost] = {};

  Mutants() {
    if (const char* wanted = std::getenv("DRPM_MUTANT")) active = std::atoi(wanted);
  }
  ~Mutants() {
    if (reached_file == nullptr) return;
    std::FILE* file = std::fopen(reached_file, "w");
    if (file == nullptr) return;
    for (int id = 0; id < kMost; ++id)
      if (reached[id]) std::fprintf(file, "%d\n", id);
    std::fclose(file);
  }
} mutants;

}  // namespace

// 1 where this mutant is the active one, else 0.
extern "C" int cuda_on_cpu_mutant(int id) {
  mutants.reached[id] = 1;
  return id == mutants.active;
}
