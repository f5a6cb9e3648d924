// The native API on one screen: every op schema, and the Python module that carries them.
#include <torch/csrc/stable/library.h>

#if defined(DRPM_EMULATED)  // test-only: the CUDA kernels run on the CPU, the same schemas under another name
#define DRPM_LIBRARY(m) STABLE_TORCH_LIBRARY(drpm_emulated, m)
#else
#include <pybind11/pybind11.h>

#include "glue/finite.h"
#include "glue/plain_rows.h"
#include "lanes/simd.h"
#include "mvhg/tables/exact.h"
#include "noise/streams.h"
#include "partition_mode/partition_mode.h"
#include "random_partition/random_partition.h"
#define DRPM_LIBRARY(m) STABLE_TORCH_LIBRARY(drpm, m)
#endif

// Shapes: B rows, K classes, n elements, S samples. Counts and seeds are int64; all tensors contiguous.
// seed: (1), or (G) for G equal groups of the B rows, each with the noise of a call of its own; none: without noise.
// largest_n: a bound on n where the host knows one (device counts are not read); memory follows it.
// Counts that are numbers stay numbers: without m every class has `capacity` items, without n every row draws
// largest_n.
namespace {

// Ops with a temperature, and their siblings for one in a tensor. Python defines the latter with their tags, which
// the stable ABI of torch 2.11 can not give, and implements them (drpm/ops/_tau.py).
struct TauSchemas {
  const char *name, *with_float, *with_tensor;
};
#define DRPM_TAU(name, before, after) \
  {name, name "(" before "float tau" after, name "_tensor_tau(" before "Tensor tau" after}
constexpr TauSchemas kTauSchemas[] = {
    DRPM_TAU("mvhg_sample_merged", "Tensor log_omega, Tensor? m, Tensor? n, Tensor? seed, Tensor? class_order, ",
             ", int samples, bool hard, bool with_statistics, SymInt capacity=-1, SymInt largest_n=-1) -> "
             "(Tensor sizes, Tensor statistics)"),
    DRPM_TAU("mvhg_sample_exact", "Tensor log_omega, Tensor? m, Tensor? n, Tensor? seed, Tensor? class_order, ",
             ", int samples, bool hard, bool with_statistics, SymInt capacity=-1, SymInt largest_n=-1) -> "
             "(Tensor sizes, Tensor statistics)"),
    DRPM_TAU("mvhg_sample_exact_backward",
             "Tensor grad, Tensor log_omega, Tensor? m, Tensor? n, Tensor? seed, Tensor? class_order, ",
             ", int samples, Tensor statistics, SymInt capacity=-1, SymInt largest_n=-1) -> Tensor"),
    DRPM_TAU("random_partition", "Tensor log_omega, Tensor log_scores, Tensor? m, Tensor? lengths, Tensor? seed, ",
             ", int samples, bool hard, bool exact, bool with_statistics, SymInt capacity) -> "
             "(Tensor assignment, Tensor sizes, Tensor order, Tensor labels, Tensor statistics)"),
    DRPM_TAU("random_partition_backward",
             "Tensor? grad_assignment, Tensor? grad_sizes, Tensor log_omega, Tensor log_scores, Tensor? m, "
             "Tensor? lengths, Tensor? seed, Tensor sizes, Tensor order, Tensor statistics, ",
             ", int samples, bool hard, bool exact, bool with_log_omega, SymInt capacity) -> (Tensor, Tensor)"),
    DRPM_TAU("relaxed_sort", "Tensor scores, ", ", bool hard) -> (Tensor permutation, Tensor order)"),
    DRPM_TAU("relaxed_sort_backward", "Tensor grad, Tensor scores, Tensor order, ", ") -> Tensor"),
    DRPM_TAU("relaxed_sort_matmul", "Tensor scores, Tensor values, ", ", bool hard) -> (Tensor product, Tensor order)"),
    DRPM_TAU("relaxed_sort_matmul_backward", "Tensor grad, Tensor scores, Tensor values, Tensor order, ",
             ", bool hard) -> (Tensor, Tensor)"),
    DRPM_TAU("partition", "Tensor scores, Tensor sizes, ",
             ", bool hard, float eps) -> (Tensor assignment, Tensor order, Tensor labels)"),
    DRPM_TAU("partition_backward", "Tensor grad, Tensor scores, Tensor sizes, Tensor order, ",
             ", bool hard, float eps) -> (Tensor, Tensor)"),
    DRPM_TAU("random_assignment", "Tensor log_scores, Tensor sizes, Tensor seed, ",
             ", bool noise) -> (Tensor assignment, Tensor order, Tensor labels)"),
    DRPM_TAU("random_assignment_backward", "Tensor grad, Tensor log_scores, Tensor sizes, Tensor labels, Tensor seed, ",
             ", bool noise) -> (Tensor, Tensor)"),
    DRPM_TAU("sized_assignment",
             "Tensor scores, Tensor low, Tensor high, Tensor? weights, Tensor? prices, Tensor? lengths, ",
             ", bool relaxed, bool hard, float rounding) -> (Tensor assignment, Tensor labels, Tensor prices, Tensor "
             "sizes, Tensor violation, Tensor converged, Tensor state)"),
    DRPM_TAU(
        "sized_assignment_backward",
        "Tensor grad, Tensor offset, Tensor scores, Tensor? weights, Tensor prices, Tensor state, Tensor? lengths, ",
        ") -> (Tensor, Tensor)"),
};
#undef DRPM_TAU

}  // namespace

DRPM_LIBRARY(m) {
  for (const TauSchemas& schema : kTauSchemas) m.def(schema.with_float);

  m.def("gumbel_noise(Tensor seed, int stream, SymInt rows, SymInt classes, SymInt width, bool float64) -> Tensor");

  m.def(
      "hypergeometric_log_weights(Tensor log_omega_left, Tensor log_omega_right, Tensor m_left, Tensor m_right, "
      "Tensor n, SymInt width) -> Tensor");
  m.def(
      "hypergeometric_log_weights_backward(Tensor grad, Tensor m_left, Tensor m_right, Tensor n) -> "
      "(Tensor, Tensor)");

  m.def(
      "mvhg_sample_merged_backward(Tensor grad, Tensor log_omega, Tensor? m, Tensor? n, Tensor? class_order, "
      "Tensor statistics, SymInt capacity=-1, SymInt largest_n=-1) -> Tensor");
  m.def("mvhg_log_prob_merged(Tensor sizes, Tensor log_omega, Tensor m, Tensor n) -> (Tensor, Tensor)");
  m.def(
      "mvhg_log_prob_merged_backward(Tensor grad, Tensor sizes, Tensor log_omega, Tensor m, Tensor n, "
      "Tensor log_prob, Tensor statistics) -> (Tensor, Tensor)");

  m.def("mvhg_log_normalizer(Tensor log_omega, Tensor m, Tensor n, bool with_mean) -> (Tensor, Tensor)");
  m.def("mvhg_log_prob(Tensor sizes, Tensor log_omega, Tensor m, Tensor n, bool with_mean) -> (Tensor, Tensor)");
  m.def("mvhg_covariance_product(Tensor log_omega, Tensor m, Tensor n, Tensor u) -> Tensor");
  m.def("mvhg_third_cumulant(Tensor log_omega, Tensor m, Tensor n, Tensor u, Tensor v) -> Tensor");
  m.def("mvhg_fourth_cumulant(Tensor log_omega, Tensor m, Tensor n, Tensor u, Tensor v, Tensor w) -> Tensor");
  m.def("mvhg_entropy(Tensor log_omega, Tensor m, Tensor n) -> (Tensor, Tensor)");
  m.def("mvhg_entropy_hessian_product(Tensor log_omega, Tensor m, Tensor n, Tensor v) -> Tensor");
  m.def("mvhg_draw(Tensor log_omega, Tensor m, Tensor n, Tensor seed, int samples, int largest_table) -> Tensor");
  m.def("mvhg_kl(Tensor log_omega_q, Tensor log_omega_p, Tensor m, Tensor n) -> (Tensor, Tensor, Tensor)");
  m.def(
      "k_subset_sample(Tensor log_weights, Tensor k, Tensor seed, int samples, bool noise, SymInt largest_k=-1) -> "
      "Tensor");

  m.def("plackett_luce_log_prob(Tensor log_scores, Tensor? order, bool with_gradient) -> (Tensor, Tensor)");
  m.def(
      "partition_log_prob(Tensor log_scores, Tensor labels, SymInt num_subsets, bool with_gradient) -> "
      "(Tensor, Tensor)");
  m.def("assignment_log_prob(Tensor log_scores, Tensor labels, bool with_gradient) -> (Tensor, Tensor)");
  m.def("partition_mode(Tensor log_omega, Tensor m, Tensor log_scores) -> Tensor");
  m.def("partition_marginals(Tensor log_omega, Tensor m, Tensor log_scores) -> Tensor");
  m.def("partition_marginals_backward(Tensor grad, Tensor log_omega, Tensor m, Tensor log_scores) -> (Tensor, Tensor)");
}

#if !defined(DRPM_EMULATED)
PYBIND11_MODULE(_C, module) {
  module.doc() = "Compiled kernels of drpm; importing it registers torch.ops.drpm.";
  module.def("build_info", [] {
    namespace py = pybind11;
    py::dict info;
    info["version"] = DRPM_VERSION;
    info["compiler"] = DRPM_COMPILER;
    info["torch_headers"] = DRPM_TORCH_HEADERS;
    info["torch_target"] = DRPM_TORCH_TARGET;
    info["simd"] = drpm::simd_level_name();
    info["simd_compiled"] = py::str(DRPM_SIMD_COMPILED).attr("split")(",");
    info["cuda_architectures"] = py::str(DRPM_CUDA_ARCHITECTURES).attr("split")();
    return info;
  });
  // What Python must agree on with the kernels. `noise_streams`: the number of each use of a seed.
  module.attr("noise_streams") = [] {
    pybind11::dict streams;
    streams["sizes"] = drpm::kStreamSizes;
    streams["order"] = drpm::kStreamOrder;
    streams["class_order"] = drpm::kStreamClassOrder;
    streams["draw"] = drpm::kStreamDraw;
    streams["assignment"] = drpm::kStreamAssignment;
    streams["tree"] = drpm::kStreamTree;
    return streams;
  }();
  module.attr("samples_per_group") = drpm::kSamplesPerGroup;
  module.attr("sort_spacing") = drpm::kSortSpacing;
  module.attr("partition_mode_limit") = drpm::kPartitionModeLimit;
  pybind11::dict tensor_tau_schemas;
  for (const TauSchemas& schema : kTauSchemas) tensor_tau_schemas[schema.name] = schema.with_tensor;
  module.attr("tensor_tau_schemas") = tensor_tau_schemas;
  static PyMethodDef methods[] = {
      {"plain_rows", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&drpm::plain_rows)), METH_FASTCALL, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  if (PyModule_AddFunctions(module.ptr(), methods) != 0) throw pybind11::error_already_set();
  // For argument checks: contiguous float32 or float64 values on the host, by address (a torch op would cost 3 us).
  module.def("all_finite", [](uintptr_t address, int64_t count, bool float64) {
    bool finite = true;
    if (address == 0) return finite;  // no values, or zeros that were never stored
    if (float64)
      drpm::all_finite({reinterpret_cast<const double*>(address), &finite}, 0, count);
    else
      drpm::all_finite({reinterpret_cast<const float*>(address), &finite}, 0, count);
    return finite;
  });
  // Likewise: whether none is below 0.
  module.def("none_negative", [](uintptr_t address, int64_t count, bool float64) {
    bool negative = false;
    const auto scan = [&](const auto* values) {
      for (int64_t i = 0; i < count; ++i) negative |= values[i] < 0;
    };
    if (address == 0) return true;
    if (float64)
      scan(reinterpret_cast<const double*>(address));
    else
      scan(reinterpret_cast<const float*>(address));
    return !negative;
  });
}
#endif
