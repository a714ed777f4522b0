// Reading the header of a safetensors file that anybody may have made. A SAX parse: nothing is
// allocated but what is kept, no recursion, no exception; the first thing that is wrong ends it.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/quoted.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr uint64_t kRegionBytesMax = kHeaderBytesMax * 4;

absl::Status Bad(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("not a valid safetensors file: ", why));
}

// {"__metadata__": {name: text...}, NAME: {"dtype": text, "shape": [n...], "data_offsets": [n, n]}}
class HeaderSax {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit HeaderSax(SafetensorsHeader& header) : header_(header) {}
  const absl::Status& status() const { return status_; }

  bool null() { return Unexpected("null"); }
  bool boolean(bool) { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t) { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) {
    return Unexpected("a number that is no unsigned 64-bit integer");
  }
  bool binary(binary_t&) { return Unexpected("bytes"); }

  bool number_unsigned(number_unsigned_t number) {
    if (place_ == Place::kShape) {
      // One more than a leaf may have: C64 is written with a trailing 2.
      if (tensor_.shape.size() == kDimensionsMax + 1) {
        return Refuse(absl::StrCat("more than ", kDimensionsMax, " dimensions"));
      }
      tensor_.shape.push_back(number);
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_ == 0) tensor_.begin = number;
      if (offsets_ == 1) tensor_.end = number;
      if (++offsets_ > 2) return Refuse("data_offsets must be two numbers");
      return true;
    }
    return Unexpected("a number");
  }

  bool string(string_t& text) {
    if (place_ == Place::kMetadata) {
      header_.metadata[field_] = std::move(text);
      return true;
    }
    if (place_ == Place::kTensor && field_ == "dtype") {
      absl::StatusOr<DType> dtype = ParseDType(text);
      if (!dtype.ok()) {  // valid, perhaps, by a later version of the format
        status_ = absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(tensor_.name),
                                                          " is of dtype ", Quoted(text),
                                                          ", which is not supported"));
        return false;
      }
      tensor_.dtype = *dtype;
      return true;
    }
    return Unexpected("a string");
  }

  bool start_object(size_t) {
    if (place_ == Place::kOutside) {
      place_ = Place::kRoot;
      return true;
    }
    if (place_ != Place::kRoot) return Unexpected("an object");
    if (tensor_.name == kSafetensorsMetadata) {
      place_ = Place::kMetadata;
    } else {
      place_ = Place::kTensor;
    }
    return true;
  }

  bool key(string_t& name) {
    switch (place_) {
      case Place::kRoot:
        tensor_ = SafetensorsTensor{name, v1::DTYPE_UNSPECIFIED, {}, 0, 0};
        offsets_ = 0;
        has_shape_ = false;
        if (!names_.insert(std::move(name)).second) return Refuse("the name is there twice");
        return true;
      case Place::kMetadata:
        if (header_.metadata.count(name) > 0) {
          return Refuse(absl::StrCat("the entry ", Quoted(name), " is there twice"));
        }
        field_ = std::move(name);
        return true;
      case Place::kTensor:
        field_ = std::move(name);
        if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") {
          return Refuse(absl::StrCat("unknown field ", Quoted(field_)));
        }
        if ((field_ == "dtype" && tensor_.dtype != v1::DTYPE_UNSPECIFIED) ||
            (field_ == "shape" && has_shape_) || (field_ == "data_offsets" && offsets_ > 0)) {
          return Refuse(absl::StrCat("the field ", field_, " is there twice"));
        }
        return true;
      default:
        return Unexpected("a name");
    }
  }

  bool end_object() {
    switch (place_) {
      case Place::kTensor:
        if (tensor_.dtype == v1::DTYPE_UNSPECIFIED) return Refuse("it has no dtype");
        if (!has_shape_) return Refuse("it has no shape");
        if (offsets_ != 2) return Refuse("it has no data_offsets of two numbers");
        if (header_.tensors.size() == kLeavesPerPartMax) {
          return Refuse(absl::StrCat("more than ", kLeavesPerPartMax, " tensors"));
        }
        header_.tensors.push_back(std::move(tensor_));
        place_ = Place::kRoot;
        return true;
      case Place::kMetadata:
        place_ = Place::kRoot;
        return true;
      default:
        place_ = Place::kOutside;
        return true;
    }
  }

  bool start_array(size_t) {
    if (place_ == Place::kTensor && field_ == "shape") {
      place_ = Place::kShape;
      has_shape_ = true;
      return true;
    }
    if (place_ == Place::kTensor && field_ == "data_offsets") {
      place_ = Place::kOffsets;
      return true;
    }
    return Unexpected("a list");
  }

  bool end_array() {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return Refuse("data_offsets must be two numbers");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
    status_ = Bad(absl::StrCat("its header is no valid JSON at byte ", position));
    return false;
  }

 private:
  enum class Place { kOutside, kRoot, kMetadata, kTensor, kShape, kOffsets };

  bool Refuse(absl::string_view why) {
    status_ = Bad(absl::StrCat("tensor ", Quoted(tensor_.name), ": ", why));
    return false;
  }
  bool Unexpected(absl::string_view what) {
    if (place_ == Place::kOutside) {
      status_ = Bad(absl::StrCat("its header is ", what, ", not an object"));
      return false;
    }
    return Refuse(absl::StrCat(what, " where none belongs"));
  }

  SafetensorsHeader& header_;
  absl::Status status_;
  Place place_ = Place::kOutside;
  absl::flat_hash_set<std::string> names_;
  SafetensorsTensor tensor_{};
  std::string field_;
  bool has_shape_ = false;
  int offsets_ = 0;
};

// Every byte of the data belongs to exactly one tensor, and as many to each as its shape says.
absl::Status CheckOffsets(SafetensorsHeader& header, uint64_t data_bytes) {
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
                     return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
                   });
  uint64_t at = 0;
  for (const SafetensorsTensor& tensor : header.tensors) {
    auto refuse = [&](absl::string_view why) {
      return Bad(absl::StrCat("tensor ", Quoted(tensor.name), ": ", why));
    };
    if (tensor.begin > tensor.end || tensor.end > data_bytes) {
      return refuse(absl::StrCat("its bytes ", tensor.begin, " to ", tensor.end,
                                 " are not within the ", data_bytes,
                                 " bytes of data; the file may be truncated"));
    }
    const std::optional<uint64_t> volume = Volume(tensor.shape);
    const uint64_t element = DTypeBytes(tensor.dtype);
    if (!volume || *volume > kStepMax / element) return refuse("its shape is too large");
    if (*volume * element != tensor.end - tensor.begin) {
      return refuse(absl::StrCat("its shape needs ", *volume * element, " bytes, its offsets span ",
                                 tensor.end - tensor.begin));
    }
    if (tensor.begin != at) {
      return refuse(absl::StrCat(
          tensor.begin < at ? "it overlaps another tensor" : "there is a hole before it",
          " (begins at ", tensor.begin, ", expected ", at, ")"));
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    return Bad(absl::StrCat("its tensors end at ", at, ", its data at ", data_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> SafetensorsRegionBytes(absl::string_view first_eight_bytes,
                                                uint64_t file_bytes) {
  if (first_eight_bytes.size() < kLengthPrefixBytes || file_bytes < kLengthPrefixBytes) {
    return Bad(absl::StrCat("only ", file_bytes, " bytes"));
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) {
    length = length << 8 | static_cast<unsigned char>(first_eight_bytes[static_cast<size_t>(i)]);
  }
  if (length > kRegionBytesMax - kLengthPrefixBytes) {
    return Bad(absl::StrCat("its header would have ", length, " bytes, at most ",
                            kRegionBytesMax - kLengthPrefixBytes, " are allowed"));
  }
  if (length > file_bytes - kLengthPrefixBytes) {
    return Bad(absl::StrCat("its header would have ", length, " bytes, the file has ", file_bytes,
                            "; it may be truncated"));
  }
  return kLengthPrefixBytes + length;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(absl::string_view region,
                                                         uint64_t file_bytes) {
  CKPT_ASSIGN_OR_RETURN(const uint64_t region_bytes, SafetensorsRegionBytes(region, file_bytes));
  if (region.size() < region_bytes) {
    return Bad(absl::StrCat("only ", region.size(), " of the ", region_bytes,
                            " bytes of its header were read"));
  }
  const absl::string_view json =
      region.substr(kLengthPrefixBytes, region_bytes - kLengthPrefixBytes);
  if (json.empty() || json[0] != '{') return Bad("its header does not begin with '{'");
  // The JSON parser would take a NUL for the end.
  if (json.find('\0') != absl::string_view::npos) return Bad("its header holds a NUL byte");

  SafetensorsHeader header;
  header.header_region_bytes = region_bytes;
  HeaderSax sax(header);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &sax)) {
    return sax.status().ok() ? Bad("its header is no valid JSON") : sax.status();
  }
  CKPT_RETURN_IF_ERROR(CheckOffsets(header, file_bytes - region_bytes));
  return header;
}

}  // namespace ckpt
