// The argument check of calls that are nothing special, in one step: for Python, which takes as long for each attribute
// that it looks at as for all of this.
#pragma once

#include <Python.h>

#include "glue/finite.h"

namespace drpm {

// Attributes of tensors, and the types and dtypes that count as plain. Made once, never freed.
struct TensorNames {
  PyObject *is_cpu, *dtype, *shape, *is_contiguous, *data_ptr, *requires_grad;
  PyObject *tensor, *parameter, *float32, *float64;

  static const TensorNames& get() {
    static const TensorNames names = [] {
      PyObject* torch = PyImport_ImportModule("torch");
      PyObject* nn = PyImport_ImportModule("torch.nn");
      const auto name = [](const char* text) { return PyUnicode_InternFromString(text); };
      return TensorNames{name("is_cpu"),
                         name("dtype"),
                         name("shape"),
                         name("is_contiguous"),
                         name("data_ptr"),
                         name("requires_grad"),
                         PyObject_GetAttrString(torch, "Tensor"),
                         PyObject_GetAttrString(nn, "Parameter"),
                         PyObject_GetAttrString(torch, "float32"),
                         PyObject_GetAttrString(torch, "float64")};
    }();
    return names;
  }
};

// Whether the attribute is this object: True, or a dtype.
inline bool attribute_is(PyObject* x, PyObject* name, PyObject* wanted) {
  PyObject* value = PyObject_GetAttr(x, name);
  Py_XDECREF(value);
  return value == wanted;  // what there is one of does not go away
}

// The number that a method without arguments returns, or the size at `index` of a tuple; negative where it is none.
inline int64_t number_of(PyObject* value) {
  const int64_t number = value != nullptr && PyLong_Check(value) ? PyLong_AsLongLong(value) : -1;
  Py_XDECREF(value);
  return number;
}

// The size at `index`, or -1 where there is none, or no number.
inline int64_t size_at(PyObject* shape, Py_ssize_t index) {
  if (!PyTuple_Check(shape) || index >= PyTuple_GET_SIZE(shape)) return -1;
  return number_of(Py_NewRef(PyTuple_GET_ITEM(shape, index)));
}

// Rows and width of a contiguous matrix of finite floats of one dtype on the CPU; a vector is one of width -1, what has
// three dimensions of width -2. False for any other.
inline bool plain_matrix(const TensorNames& names, PyObject* x, PyObject* dtype, int64_t* rows, int64_t* width) {
  PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(x));
  if (type != names.tensor && type != names.parameter) return false;
  if (!attribute_is(x, names.is_cpu, Py_True) || !attribute_is(x, names.dtype, dtype)) return false;
  PyObject* shape = PyObject_GetAttr(x, names.shape);
  if (shape == nullptr) return false;
  const int64_t sizes[] = {size_at(shape, 0), size_at(shape, 1), size_at(shape, 2)};
  const Py_ssize_t dims = PyTuple_Check(shape) ? PyTuple_GET_SIZE(shape) : 0;
  Py_DECREF(shape);
  if (dims < 1 || dims > 3) return false;
  int64_t count = 1;
  for (Py_ssize_t i = 0; i < dims; ++i) {
    if (sizes[i] < 0) return false;
    count *= sizes[i];
  }
  *rows = sizes[0];
  *width = dims == 1 ? -1 : dims == 2 ? sizes[1] : -2;
  PyObject* contiguous = PyObject_CallMethodNoArgs(x, names.is_contiguous);
  Py_XDECREF(contiguous);
  if (contiguous != Py_True) return false;
  const int64_t address = number_of(PyObject_CallMethodNoArgs(x, names.data_ptr));
  if (address <= 0) return address == 0 && count == 0;
  bool finite = true;
  if (dtype == names.float64)
    all_finite({reinterpret_cast<const double*>(address), &finite}, 0, count);
  else
    all_finite({reinterpret_cast<const float*>(address), &finite}, 0, count);
  return finite;
}

// plain_rows(*tensors): (rows, width of each, whether one requires a gradient) where all are plain matrices or vectors
// with the same number of rows and the same dtype, else None.
inline PyObject* plain_rows(PyObject*, PyObject* const* tensors, Py_ssize_t count) {
  const TensorNames& names = TensorNames::get();
  constexpr Py_ssize_t kMost = 4;
  int64_t rows[kMost], widths[kMost];
  bool plain = count > 0 && count <= kMost, gradient = false;
  PyObject* dtype = plain && attribute_is(tensors[0], names.dtype, names.float64) ? names.float64 : names.float32;
  for (Py_ssize_t i = 0; plain && i < count; ++i) {
    plain = plain_matrix(names, tensors[i], dtype, rows + i, widths + i) && rows[i] == rows[0];
    gradient = gradient || (plain && attribute_is(tensors[i], names.requires_grad, Py_True));
  }
  if (!plain || PyErr_Occurred()) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  PyObject* found = PyTuple_New(count + 2);
  if (found == nullptr) return nullptr;
  PyTuple_SET_ITEM(found, 0, PyLong_FromLongLong(rows[0]));
  for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(found, i + 1, PyLong_FromLongLong(widths[i]));
  PyTuple_SET_ITEM(found, count + 1, PyBool_FromLong(gradient));
  return found;
}

}  // namespace drpm
