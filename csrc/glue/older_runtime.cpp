// What g++ 11 and 12 take from a newer libstdc++ and glibc than the manylinux_2_28 rules allow (GLIBCXX_3.4.24, glibc
// 2.28), defined inside the module; the compilers of that image link such a file, too (libstdc++_nonshared.a).
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#include <new>
#include <sstream>

// glibc 2.32. Read by std::shared_ptr to choose plain counts over atomic ones; 0: there may be several threads.
extern "C" __attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

namespace std {
template basic_ostringstream<char>::basic_ostringstream();  // GLIBCXX_3.4.26
template basic_stringstream<char>::basic_stringstream();
void __throw_bad_array_new_length() { throw bad_array_new_length(); }  // GLIBCXX_3.4.29
}  // namespace std
#endif
