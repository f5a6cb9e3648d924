// Switches the mutants of tools/cuda/mutate.py, which are all compiled into one program. Without sanitizers.
//   DRPM_MUTANT = id    that mutant is active
//   DRPM_REACHED = file gets the ids of the mutants that the program came by, one a line
#include <cstdio>
#include <cstdlib>

constexpr int kMost = 1 << 14;

extern "C" {
int cuda_on_cpu_active_mutant = -1;
unsigned char cuda_on_cpu_reached_mutants[kMost] = {};
}

namespace {

struct Mutants {
  Mutants() {
    if (const char* wanted = std::getenv("DRPM_MUTANT")) cuda_on_cpu_active_mutant = std::atoi(wanted);
  }
  ~Mutants() {
    const char* const name = std::getenv("DRPM_REACHED");
    std::FILE* const file = name == nullptr ? nullptr : std::fopen(name, "w");
    if (file == nullptr) return;
    for (int id = 0; id < kMost; ++id)
      if (cuda_on_cpu_reached_mutants[id]) std::fprintf(file, "%d\n", id);
    std::fclose(file);
  }
} mutants;

}  // namespace

// 1 where this mutant is the active one, else 0; mutant.h has it inline for programs without a sanitizer.
extern "C" int cuda_on_cpu_mutant(int id) {
  cuda_on_cpu_reached_mutants[id] = 1;
  return id == cuda_on_cpu_active_mutant;
}
