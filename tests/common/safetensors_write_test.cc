#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "common/limits.h"
#include "common/safetensors.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

CheckpointId SampleId() {
  return {"team/run", 1200,
          Incarnation::FromHex("000102030405060708090a0b0c0d0e0f", "incarnation").value()};
}

// The JSON of a region, after its frame has been checked.
nlohmann::json Json(const std::string& region) {
  EXPECT_EQ(region.size() % kDataAlignmentBytes, 0u);
  uint64_t length = 0;
  memcpy(&length, region.data(), 8);
  EXPECT_EQ(8 + length, region.size());
  EXPECT_EQ(region[8], '{');
  return nlohmann::json::parse(region.substr(8));
}

// Where a part's files are cut follows from it, so it is part of the format.
TEST(SafetensorsWriteTest, HeaderBytesBoundIsStable) {
  v1::Leaf leaf;
  EXPECT_EQ(HeaderBytesBound(ShapeOf(leaf), "w"), 1 + 2 + 1 + 4 + 320u);
  EXPECT_EQ(HeaderBytesBound(ShapeOf(leaf), "a\"b"), 4 + 2 + 6 + 4 + 320u)
      << "escaped once, and twice";
  EXPECT_EQ(HeaderBytesBound(ShapeOf(leaf), "\n"), 2 + 2 + 3 + 4 + 320u);
  EXPECT_EQ(HeaderBytesBound(ShapeOf(leaf), "\xc3\xa9"), 2 + 2 + 2 + 4 + 320u);
  leaf.add_shape(7);
  leaf.add_shape(1200);
  EXPECT_EQ(HeaderBytesBound(ShapeOf(leaf), "w"), 1 + 2 + 1 + 4 + 4 * (2 + 5) + 320u);
}

TEST(SafetensorsWriteTest, HeaderOfALayout) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  v1::Values values;
  v1::Values::Entry* entry = values.add_entries();
  entry->set_leaf(6);
  entry->mutable_value()->set_real(NAN);
  const std::string region = MakeHeaderRegion(*layout, 0, values, SampleId(), 1, 4);
  const nlohmann::json json = Json(region);
  const nlohmann::json& metadata = json["__metadata__"];
  EXPECT_EQ(metadata["format"], "ckptd");
  EXPECT_EQ(metadata["format_version"], "1");
  EXPECT_EQ(metadata["run"], "team/run");
  EXPECT_EQ(metadata["step"], "1200");
  EXPECT_EQ(metadata["rank"], "1");
  EXPECT_EQ(metadata["world_size"], "4");
  EXPECT_EQ(metadata["incarnation"], "000102030405060708090a0b0c0d0e0f");
  for (const auto& [name, value] : metadata.items()) EXPECT_TRUE(value.is_string()) << name;
  EXPECT_EQ(nlohmann::json::parse(metadata["values"].get<std::string>()),
            nlohmann::json::parse(R"({"epoch": "NaN"})"));
  EXPECT_EQ(nlohmann::json::parse(metadata["shards"].get<std::string>()), nlohmann::json::parse(R"({
    "wave": {"dtype": "C64", "shape": [2], "offset": [0], "extent": [2]},
    "rows": {"shape": [8, 3], "offset": [4, 0], "extent": [2, 3]},
    "rows#1": {"shape": [8, 3], "offset": [6, 1], "extent": [2, 2]}})"));
  nlohmann::json tensors = json;
  tensors.erase("__metadata__");
  EXPECT_EQ(tensors, nlohmann::json::parse(R"({
    "scalar": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]},
    "wave": {"dtype": "F32", "shape": [2, 2], "data_offsets": [8, 24]},
    "weight": {"dtype": "F32", "shape": [4, 6], "data_offsets": [24, 120]},
    "rows": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [120, 132]},
    "rows#1": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [132, 140]},
    "bytes": {"dtype": "U8", "shape": [5], "data_offsets": [140, 145]}})"));
  // Our own reader, which refuses everything doubtful, takes it.
  const auto parsed = ParseSafetensorsHeader(region, region.size() + layout->files()[0].length);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->tensors.size(), 6u);
  EXPECT_EQ(parsed->header_region_bytes, region.size());
  EXPECT_EQ(parsed->metadata.at("step"), "1200");
}

// The header's hash stands in manifests; an adopted part's header is made again after a restart.
TEST(SafetensorsWriteTest, HeaderIsStable) {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  EXPECT_EQ(Xxh3(MakeHeaderRegion(*layout, 0, {}, SampleId(), 1, 4)), 1670842741408487755u);
}

TEST(SafetensorsWriteTest, NamesThatAreTakenArePassedOver) {
  v1::Layout layout;
  *layout.add_leaves() = TensorNamed("a", v1::DTYPE_U8, {3}, v1::PLACEMENT_SHARDED);
  *layout.add_leaves() = TensorNamed("a#1", v1::DTYPE_U8, {1});
  *layout.add_leaves() = TensorNamed("__metadata__", v1::DTYPE_U8, {1});
  for (uint64_t i = 0; i < 3; ++i) AddShard(0, {{i}, {1}}, layout);
  AddShard(1, Box::Whole({1}), layout);
  AddShard(2, Box::Whole({1}), layout);
  const auto made = PartLayout::FromProto(layout).value();
  const std::string region = MakeHeaderRegion(*made, 0, {}, SampleId(), 0, 1);
  const auto parsed = ParseSafetensorsHeader(region, region.size() + 5);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  std::vector<std::string> names;
  for (const SafetensorsTensor& tensor : parsed->tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"__metadata__#1", "a", "a#2", "a#3", "a#1"}));
}

// The bound decides where files are cut: it must hold for the worst names and shapes.
TEST(SafetensorsWriteTest, HeadersNeverPassTheirBound) {
  std::string worst;
  for (int i = 0; i < 300; ++i) worst += "\x01\"\\\n\xc3\xa9";
  const uint64_t huge = uint64_t{1} << 40;
  for (const std::string& name : {std::string("w"), worst, std::string("__metadata__")}) {
    for (const DType dtype : {v1::DTYPE_U8, v1::DTYPE_C64, v1::DTYPE_F8_E4M3}) {
      v1::Layout layout;
      v1::Leaf leaf = TensorNamed(name, dtype, {huge}, v1::PLACEMENT_SHARDED);
      for (size_t d = 1; d < kDimensionsMax; ++d) leaf.add_shape(1);
      *layout.add_leaves() = leaf;
      constexpr uint64_t kShards = 50;
      for (uint64_t i = 0; i < kShards; ++i) {
        Box box = WholeOf(leaf);
        box.offset[0] = huge - 100 + i;
        box.extent[0] = 1;
        AddShard(0, box, layout);
      }
      const auto made = PartLayout::FromProto(layout).value();
      const std::string region = MakeHeaderRegion(*made, 0, {}, SampleId(), 0, 1);
      const size_t json_bytes = region.find_last_not_of(' ') + 1;
      EXPECT_LE(json_bytes,
                600 + kShards * HeaderBytesBound(ShapeOf(leaf), made->leaves().printed_key(0)));
      EXPECT_TRUE(ParseSafetensorsHeader(region, region.size() + made->files()[0].length).ok());
    }
  }
}

TEST(SafetensorsWriteTest, FilesOfAManyShardedPartAreAllValid) {
  v1::Layout layout;
  constexpr uint64_t kRows = 10000;
  *layout.add_leaves() =
      TensorNamed(std::string(4000, 'k'), v1::DTYPE_F32, {kRows}, v1::PLACEMENT_SHARDED);
  *layout.add_leaves() = ValueNamed("note");
  for (uint64_t row = 0; row < kRows; ++row) AddShard(0, {{row}, {1}}, layout);
  const auto made = PartLayout::FromProto(layout).value();
  ASSERT_GT(made->files().size(), 1u);
  v1::Values values;
  values.add_entries()->set_leaf(1);
  values.mutable_entries(0)->mutable_value()->set_text("hello");
  for (uint32_t f = 0; f < made->files().size(); ++f) {
    const std::string region = MakeHeaderRegion(*made, f, values, SampleId(), 0, 1);
    EXPECT_LE(region.size(), kHeaderBytesMax);
    const auto parsed = ParseSafetensorsHeader(region, region.size() + made->files()[f].length);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->tensors.size(), made->files()[f].shard_count);
    EXPECT_EQ(parsed->metadata.count("values"), f == 0 ? 1u : 0u);
  }
}

TEST(SafetensorsWriteTest, ValuesTooLargeForTheHeaderAreLeftOut) {
  v1::Layout layout;
  *layout.add_leaves() = TensorNamed("t", v1::DTYPE_U8, {1});
  AddShard(0, Box::Whole({1}), layout);
  v1::Values values;
  const std::string text(4096, '\x01');  // 24 KiB each in a header
  for (int i = 0; i < 1800; ++i) {
    *layout.add_leaves() = ValueNamed("v" + std::to_string(i));
    v1::Values::Entry* entry = values.add_entries();
    entry->set_leaf(static_cast<uint32_t>(i + 1));
    entry->mutable_value()->set_text(text);
  }
  const auto made = PartLayout::FromProto(layout).value();
  const std::string region = MakeHeaderRegion(*made, 0, values, SampleId(), 0, 1);
  EXPECT_LE(region.size(), kHeaderBytesMax);
  const auto parsed = ParseSafetensorsHeader(region, region.size() + 1);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->metadata.count("values"), 0u);
  EXPECT_EQ(parsed->metadata.count("values_omitted"), 1u);
}

TEST(SafetensorsWriteTest, PlainHeader) {
  std::vector<SafetensorsTensor> tensors = {{"b", v1::DTYPE_F32, {2, 3}, 0, 0},
                                            {"empty", v1::DTYPE_F32, {0}, 0, 0},
                                            {"a", v1::DTYPE_C64, {}, 0, 0}};
  const std::string region = MakePlainHeaderRegion(tensors, {{"format", "pt"}});
  EXPECT_EQ(Json(region), nlohmann::json::parse(R"({"__metadata__": {"format": "pt"},
    "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "empty": {"dtype": "F32", "shape": [0], "data_offsets": [24, 24]},
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]}})"));
  EXPECT_TRUE(ParseSafetensorsHeader(region, region.size() + 32).ok());
  const std::string nothing = MakePlainHeaderRegion({}, {});
  EXPECT_EQ(Json(nothing), nlohmann::json::object());
  EXPECT_TRUE(ParseSafetensorsHeader(nothing, nothing.size()).ok());
}

TEST(SafetensorsWriteTest, ValuesAsJson) {
  v1::Value value;
  EXPECT_EQ(ValueToJson(value), "null");
  value.mutable_null();
  EXPECT_EQ(ValueToJson(value), "null");
  value.set_boolean(true);
  EXPECT_EQ(ValueToJson(value), "true");
  value.set_integer(INT64_MIN);
  EXPECT_EQ(ValueToJson(value), "-9223372036854775808");
  value.set_real(2);
  EXPECT_EQ(ValueToJson(value), "2.0");
  value.set_text("a\"b");
  EXPECT_EQ(ValueToJson(value), "\"a\\\"b\"");
  value.set_raw(std::string("\0\xff", 2));
  EXPECT_EQ(ValueToJson(value), "\"base64:AP8=\"");
}

}  // namespace
}  // namespace ckpt
