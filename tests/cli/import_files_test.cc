// What the import accepts and refuses before the daemon hears of it: every file here is one that
// somebody else may have made.
#include "client/cli/import_files.h"

#include <sys/stat.h>

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/torch_file_bytes.h"
#include "tests/fixtures/daemon.h"

namespace ckpt::cli {
namespace {

using namespace ckpt::testing;  // what makes the files
using ::testing::HasSubstr;

std::string File(const std::string& json, const std::string& data) {
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>((json.size() >> (8 * i)) & 0xFF);
  return length + json + data;
}

class ImportFiles : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  std::string PutTensor(const std::string& name, const std::string& tensor) {
    return Put(name,
               File("{\"" + tensor + "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
                    "abcd"));
  }
  std::string Refusal(const std::vector<std::string>& paths) {
    const absl::StatusOr<ImportSet> set = OpenImportSet(paths);
    EXPECT_FALSE(set.ok());
    return set.ok() ? "" : std::string(set.status().message());
  }
  ckpt::testing::ScratchFolder folder_;
};

TEST_F(ImportFiles, OneFile) {
  const std::string path = Put(
      "a.safetensors",
      File(
          "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,1],"
          "\"data_offsets\":[0,8]},\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[8,16]}}",
          "01234567abcdefgh"));
  const absl::StatusOr<ImportSet> set = OpenImportSet({path});
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->leaves.size(), 2u);
  EXPECT_EQ(set->tensor_count, 2u);
  EXPECT_EQ(set->data_bytes, 16u);
  EXPECT_EQ(set->metadata.at("format"), "pt");
  std::string bytes(8, '\0');
  ASSERT_TRUE(set->leaves[1].read(0, 8, bytes.data()).ok());
  EXPECT_EQ(bytes, "abcdefgh");
}

TEST_F(ImportFiles, ShardedByIndexOrByFolder) {
  PutTensor("one.safetensors", "a");
  PutTensor("two.safetensors", "b");
  const std::string index = Put(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":8},)"
      R"("weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  for (const std::string& path : {index, folder_.path()}) {
    const absl::StatusOr<ImportSet> set = OpenImportSet({path});
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_EQ(set->leaves.size(), 2u);
  }
}

TEST_F(ImportFiles, TwoFilesWithTheSameTensorAreRefused) {
  EXPECT_THAT(Refusal({PutTensor("one", "same"), PutTensor("two", "same")}),
              HasSubstr("two files have 'same'"));
  const std::string path = PutTensor("one", "same");
  EXPECT_THAT(Refusal({path, path}), HasSubstr("two files have 'same'"));
}

TEST_F(ImportFiles, AMissingShardIsNamed) {
  PutTensor("one.safetensors", "a");
  const std::string index =
      Put("i.json", R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})");
  const absl::Status status = OpenImportSet({index}).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("names 'two.safetensors'"));
}

std::string TorchFile(const std::string& name) {
  return TorchFileOf(
      PickledDict(name, PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1})),
      {"01234567"});
}

TEST_F(ImportFiles, TorchFilesAreKnownByTheirContent) {
  const std::string torch = Put("a.safetensors", TorchFile("t"));
  const std::string safe = PutTensor("b.pt", "s");
  const absl::StatusOr<ImportSet> set = OpenImportSet({torch, safe});
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->leaves.size(), 2u);
  EXPECT_EQ(set->data_bytes, 12u);
  EXPECT_EQ(set->leaves[0].dtype, v1::DTYPE_F32);
  EXPECT_EQ(set->leaves[1].dtype, v1::DTYPE_U8);
  EXPECT_THAT(Refusal({torch, PutTensor("c", "t")}), HasSubstr("two files have 't'"));
}

TEST_F(ImportFiles, TorchFilesStandInAnIndexToo) {
  Put("one.bin", TorchFile("a"));
  Put("two.bin", TorchFile("b"));
  Put("pytorch_model.bin.index.json", R"({"weight_map":{"a":"one.bin","b":"two.bin"}})");
  const absl::StatusOr<ImportSet> set = OpenImportSet({folder_.path()});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->leaves.size(), 2u);
  EXPECT_THAT(Refusal({Put("i.json", R"({"weight_map":{"a":"one.bin","b":"one.bin"}})")}),
              HasSubstr("should be in one.bin, but is not"));
  // A folder that has both kinds is read as safetensors.
  PutTensor("model.safetensors", "s");
  EXPECT_EQ(OpenImportSet({folder_.path()})->leaves.size(), 1u);
}

// An alias refers to a leaf of its own file.
TEST_F(ImportFiles, AliasesAreCountedOverAllFiles) {
  const auto tensor = PickledTensor(PickledStorage("FloatStorage", "0", 2), 0, {2}, {1});
  const std::string tied = Put("tied", TorchFileOf("}(" + PickledText("x") + tensor +
                                                       PickledText("y") + tensor + "u",
                                                   {"01234567"}));
  const absl::StatusOr<ImportSet> set = OpenImportSet({PutTensor("first", "a"), tied});
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->leaves.size(), 3u);
  EXPECT_EQ(set->leaves[2].alias_of, 1u);
  EXPECT_EQ(set->data_bytes, 12u);
}

TEST_F(ImportFiles, AnIndexCannotLeaveItsFolder) {
  PutTensor("one.safetensors", "a");
  for (const char* name : {"../one.safetensors", "/etc/passwd", "..", "", "x\\u0000y", "sub/one"}) {
    const std::string index =
        Put("evil.json", std::string("{\"weight_map\":{\"a\":\"") + name + "\"}}");
    EXPECT_THAT(Refusal({index}), HasSubstr("must be a plain name")) << name;
  }
}

TEST_F(ImportFiles, AnIndexThatDisagreesWithItsFilesIsRefused) {
  PutTensor("one.safetensors", "a");
  PutTensor("two.safetensors", "b");
  EXPECT_THAT(
      Refusal({Put("i.json", R"({"weight_map":{"a":"one.safetensors","c":"one.safetensors"}})")}),
      HasSubstr("should be in one.safetensors, but is not"));
  EXPECT_THAT(Refusal({Put("i.json", R"({"weight_map":{"a":"two.safetensors"}})")}),
              HasSubstr("should be in two.safetensors"));
  Put("both.safetensors", File(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                               R"("extra":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                               "xy"));
  EXPECT_THAT(Refusal({Put("i.json", R"({"weight_map":{"a":"both.safetensors"}})")}),
              HasSubstr("that the index doesn't name"));
}

TEST_F(ImportFiles, AllThatIsWrongIsToldAtOnce) {
  const std::string index =
      Put("i.json", R"({"weight_map":{"a":"gone.safetensors","b":"away.bin"}})");
  const std::string told = Refusal({Put("bad", "nonsense"), index, folder_ / "none"});
  for (const char* name : {"bad", "'gone.safetensors'", "'away.bin'", "none"}) {
    EXPECT_THAT(told, HasSubstr(name));
  }
  PutTensor("one.safetensors", "a");
  const std::string lacking =
      Refusal({Put("i.json", R"({"weight_map":{"q1":"one.safetensors","q2":"one.safetensors"}})")});
  for (const char* name : {"\"q1\"", "\"q2\"", "\"a\""}) EXPECT_THAT(lacking, HasSubstr(name));
}

TEST_F(ImportFiles, WhatIsNoIndexIsRefused) {
  for (const char* text : {"", "[]", "nonsense", "{\"weight_map\":[]}",
                           "{\"weight_map\":{\"a\":1}}", "{}", "{\"weight_map\":"}) {
    EXPECT_FALSE(Refusal({Put("i.json", text)}).empty()) << text;
  }
}

TEST_F(ImportFiles, HostileHeadersAreRefusedWithThePath) {
  const std::string good = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  const std::string whole = File(good, "abcd");
  std::vector<std::string> hostile = {
      "",
      "1234567",
      std::string(8, '\xff') + "{}",
      std::string(8, '\0'),
      File(good, "abc"),    // data too short
      File(good, "abcde"),  // a hole at the end
      File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})", "abcd"),
      File(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})", "abcd"),
      File(R"({"a":{"dtype":"X9","shape":[4],"data_offsets":[0,4]}})", "abcd"),
      File(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}})", "abcd"),
      File(R"({"a":{"dtype":"U8","shape":[9223372036854775807,4],"data_offsets":[0,4]}})", "abcd"),
      File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
           R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
           "abcd"),
      File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
           R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
           "abcdef"),
      File("[1,2,3]", ""),
      File("{\"a\":", ""),
      File(std::string(100000, '['), ""),
      File("\xff\xfe{}", "")};
  for (size_t cut = 0; cut < whole.size(); cut += 7) hostile.push_back(whole.substr(0, cut));
  for (size_t i = 0; i < hostile.size(); ++i) {
    const std::string path = Put("hostile" + std::to_string(i), hostile[i]);
    EXPECT_THAT(Refusal({path}), HasSubstr(path)) << "case " << i;
  }
}

TEST_F(ImportFiles, OnlyRegularFilesAreOpened) {
  EXPECT_TRUE(absl::IsNotFound(OpenImportSet({folder_ / "none"}).status()));
  EXPECT_TRUE(absl::IsNotFound(OpenImportSet({folder_.path()}).status()));  // nothing in it
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(Refusal({folder_ / "pipe"}), HasSubstr("not a regular file"));
  EXPECT_THAT(Refusal({"/dev/zero"}), HasSubstr("not a regular file"));
}

TEST_F(ImportFiles, AFileThatShrinksMeanwhileIsNoticed) {
  const std::string path = PutTensor("a.safetensors", "a");
  const absl::StatusOr<ImportSet> set = OpenImportSet({path});
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(truncate(path.c_str(), 20), 0);
  char bytes[4];
  EXPECT_TRUE(absl::IsDataLoss(set->leaves[0].read(0, 4, bytes)));
}

}  // namespace
}  // namespace ckpt::cli
