// What tools/cuda/mutate.py puts in front of every file that has mutants: the switch of each.
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

extern "C" int cuda_on_cpu_mutant(int id);  // not inlined: ThreadSanitizer would take its notes for races

#else

extern "C" {
extern int cuda_on_cpu_active_mutant;
extern unsigned char cuda_on_cpu_reached_mutants[];
}

inline int cuda_on_cpu_mutant(int id) {
  cuda_on_cpu_reached_mutants[id] = 1;
  return id == cuda_on_cpu_active_mutant;
}

#endif
