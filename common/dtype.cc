#include "common/dtype.h"

#include <string>

#include "common/quoted.h"

namespace ckpt {
namespace {

struct Row {
  DType dtype;
  uint64_t bytes;
  const char* name;
};
constexpr Row kRows[] = {
    {v1::DTYPE_BOOL, 1, "BOOL"},       {v1::DTYPE_U8, 1, "U8"},
    {v1::DTYPE_I8, 1, "I8"},           {v1::DTYPE_I16, 2, "I16"},
    {v1::DTYPE_I32, 4, "I32"},         {v1::DTYPE_I64, 8, "I64"},
    {v1::DTYPE_F16, 2, "F16"},         {v1::DTYPE_BF16, 2, "BF16"},
    {v1::DTYPE_F32, 4, "F32"},         {v1::DTYPE_F64, 8, "F64"},
    {v1::DTYPE_C64, 8, "C64"},         {v1::DTYPE_F8_E4M3, 1, "F8_E4M3"},
    {v1::DTYPE_F8_E5M2, 1, "F8_E5M2"}, {v1::DTYPE_U16, 2, "U16"},
    {v1::DTYPE_U32, 4, "U32"},         {v1::DTYPE_U64, 8, "U64"},
};

// Rows stand in the order of the enum, which begins at 1.
const Row* Find(DType dtype) {
  const int i = static_cast<int>(dtype) - 1;
  return i >= 0 && i < static_cast<int>(std::size(kRows)) ? &kRows[i] : nullptr;
}

constexpr bool RowsInOrder() {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (static_cast<int>(kRows[i].dtype) != static_cast<int>(i) + 1) return false;
  }
  return true;
}
static_assert(RowsInOrder() && std::size(kRows) == v1::DType_MAX);

}  // namespace

uint64_t DTypeBytes(DType dtype) {
  const Row* row = Find(dtype);
  return row != nullptr ? row->bytes : 0;
}

absl::string_view DTypeName(DType dtype) {
  const Row* row = Find(dtype);
  return row != nullptr ? row->name : "unknown";
}

absl::string_view SafetensorsDTypeName(DType dtype) {
  return dtype == v1::DTYPE_C64 ? "F32" : DTypeName(dtype);
}

absl::StatusOr<DType> ParseDType(absl::string_view safetensors_name) {
  for (const Row& row : kRows) {
    if (safetensors_name == row.name) return row.dtype;
  }
  return absl::NotFoundError("no such dtype: " + Quoted(safetensors_name));
}

}  // namespace ckpt
