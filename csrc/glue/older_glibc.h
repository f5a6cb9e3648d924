// Included by force into every file that uses the C library's exp or log (CMakeLists.txt): glibc 2.29 gave these a new
// version that differs in errno alone. The old one is what a link in the manylinux_2_28 image would take.
#if defined(__x86_64__) && defined(__linux__)
__asm__(".symver exp, exp@GLIBC_2.2.5");
__asm__(".symver log, log@GLIBC_2.2.5");
#endif
