// The zip archives below torch.save files: what is written is read, and every lie in them is found.
#include <fstream>

#include "client/cli/torch_file/zip_reader.h"
#include "client/cli/torch_file/zip_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/torch_file_bytes.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"

namespace ckpt::cli {
namespace {

using namespace ckpt::testing;  // what makes the archives
using ::testing::HasSubstr;

absl::StatusOr<ZipReader> Open(std::string bytes) {
  return ZipReader::Open(InputFile::OfBytes("some.zip", std::move(bytes)));
}

class Zip : public ::testing::Test {
 protected:
  Zip() : bytes_(ZipOf({{"a/x", "first"}, {"a/y", ""}, {"a/z", "third one"}}, &places_)) {}
  // Of the archive with `count` bytes at `at` written over.
  std::string Refusal(size_t at, uint64_t value, size_t count) const {
    std::string changed = bytes_;
    WriteOver(changed, at, value, count);
    const auto opened = Open(std::move(changed));
    return opened.ok() ? "" : std::string(opened.status().message());
  }
  static std::string NameRefusal(const std::string& name) {
    const auto opened = Open(ZipOf({{name, "x"}}));
    return opened.ok() ? "" : std::string(opened.status().message());
  }
  ZipPlaces places_;
  const std::string bytes_;
  ScratchFolder folder_;
};

TEST_F(Zip, AnArchiveIsRead) {
  const auto zip = Open(bytes_);
  ASSERT_TRUE(zip.ok()) << zip.status();
  ASSERT_EQ(zip->entries().size(), 3u);
  EXPECT_EQ(*zip->Read(*zip->Find("a/x"), 100), "first");
  EXPECT_EQ(*zip->Read(*zip->Find("a/y"), 100), "");
  EXPECT_EQ(*zip->Read(*zip->Find("a/z"), 100), "third one");
  EXPECT_EQ(zip->Find("a/w"), nullptr);
  EXPECT_TRUE(absl::IsInvalidArgument(zip->Read(*zip->Find("a/z"), 8).status()));
}

TEST_F(Zip, ACommentAtTheEndIsNoMatter) {
  std::string commented = bytes_ + "PK\x05\x06 not a record";
  WriteOver(commented, places_.end + 20, commented.size() - bytes_.size(), 2);
  const auto zip = Open(commented);
  ASSERT_TRUE(zip.ok()) << zip.status();
  EXPECT_EQ(zip->entries().size(), 3u);
}

TEST_F(Zip, TruncatedAnywhereIsRefused) {
  for (size_t length = 0; length < bytes_.size(); ++length) {
    EXPECT_FALSE(Open(bytes_.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(Open(bytes_ + "x").ok());
}

TEST_F(Zip, AnyByteMayBeAnother) {
  for (size_t at = 0; at < bytes_.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x50, 0x7f, 0x80, 0xff}) {
      std::string changed = bytes_;
      changed[at] = static_cast<char>(value);
      const auto zip = Open(changed);
      if (!zip.ok()) continue;
      for (const ZipEntry& entry : zip->entries()) (void)zip->Read(entry, 1000);
    }
  }
}

TEST_F(Zip, NamesStayInside) {
  for (const char* name : {"/etc/passwd", "../x", "a/../../x", "a/..", "a\\..\\x", ""}) {
    EXPECT_THAT(NameRefusal(name), HasSubstr("an entry called")) << name;
  }
  EXPECT_THAT(NameRefusal(std::string("a\0b", 3)), HasSubstr("an entry called"));
  EXPECT_EQ(NameRefusal("a/..b"), "");
}

TEST_F(Zip, OverlapsAreRefused) {
  // Two entries at one place, the classic bomb: each name gives the same bytes once more.
  EXPECT_NE(Refusal(places_.directory[2] + 42, places_.local[0], 4), "");
  std::string twins = ZipOf({{"a/x", "first"}, {"a/y", "first"}}, &(places_ = {}));
  WriteOver(twins, places_.directory[1] + 42, places_.local[0], 4);
  twins.replace(places_.directory[1] + 46, 3, "a/x");
  EXPECT_THAT(std::string(Open(twins).status().message()), HasSubstr("two entries are called"));
  // An entry whose bytes hold the next one's header.
  std::string nested = bytes_;
  ZipPlaces places;
  nested = ZipOf({{"a/x", "first"}, {"a/z", "third one"}}, &places);
  for (const size_t at : {places.directory[0] + 20, places.directory[0] + 24}) {
    WriteOver(nested, at, places.local[1], 4);
  }
  EXPECT_THAT(std::string(Open(nested).status().message()), HasSubstr("overlaps another entry"));
}

TEST_F(Zip, LiesAreFound) {
  const size_t entry = places_.directory[0];
  EXPECT_EQ(Refusal(entry, 0x02014b50, 4), "");  // as it stands
  EXPECT_THAT(Refusal(entry + 8, 1, 2), HasSubstr("encrypted"));
  EXPECT_THAT(Refusal(entry + 10, 8, 2), HasSubstr("something else"));  // to one header only
  EXPECT_THAT(Refusal(entry + 20, 4, 4), HasSubstr("two sizes"));
  EXPECT_THAT(Refusal(entry + 20, 0xffffffff, 4), HasSubstr("64-bit sizes are missing"));
  EXPECT_THAT(Refusal(entry + 28, 60000, 2), HasSubstr("ends within an entry"));
  EXPECT_THAT(Refusal(entry + 42, 0xfffffff0, 4), HasSubstr("outside of the file"));
  EXPECT_THAT(Refusal(entry + 42, 1, 4), HasSubstr("something else"));
  EXPECT_THAT(Refusal(places_.local[0] + 26, 2, 2), HasSubstr("something else"));
  EXPECT_THAT(Refusal(places_.local[0] + 8, 8, 2), HasSubstr("something else"));
  EXPECT_THAT(Refusal(places_.local[0] + 30, 'b', 1), HasSubstr("something else"));
  EXPECT_NE(Refusal(places_.local[0] + 28, 60000, 2), "");  // an extra field past the end
  EXPECT_THAT(Refusal(places_.end + 4, 1, 2), HasSubstr("several volumes"));
  EXPECT_THAT(Refusal(places_.end + 8, 2, 4), HasSubstr("several volumes"));
  EXPECT_THAT(Refusal(places_.end + 8, 0x0002'0002, 4), HasSubstr("more in it than it says"));
  EXPECT_THAT(Refusal(places_.end + 8, 0x7fff'7fff, 4), HasSubstr("too short for its entries"));
  EXPECT_THAT(Refusal(places_.end + 8, 0xffff'ffff, 4), HasSubstr("zip64 record is missing"));
  EXPECT_THAT(Refusal(places_.end + 12, 0xfffffff0, 4), HasSubstr("outside of the file"));
  EXPECT_THAT(Refusal(places_.end + 16, 0xfffffff0, 4), HasSubstr("outside of the file"));
}

// Whatever size it says that it would have: a bomb is never unpacked.
TEST_F(Zip, CompressedEntriesAreNeverRead) {
  std::string changed = bytes_;
  WriteOver(changed, places_.directory[0] + 10, 8, 2);
  WriteOver(changed, places_.directory[0] + 24, 0xfffffff0, 4);
  WriteOver(changed, places_.local[0] + 8, 8, 2);
  const auto zip = Open(changed);
  ASSERT_TRUE(zip.ok()) << zip.status();
  const ZipEntry& entry = *zip->Find("a/x");
  for (const absl::Status& status : {zip->Read(entry, 1000).status(), zip->Verify(entry)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("'a/x' is compressed"));
  }
  EXPECT_EQ(*zip->Read(*zip->Find("a/z"), 100), "third one");
}

TEST_F(Zip, DamagedBytesAreDataLoss) {
  std::string changed = bytes_;
  changed[places_.data[0]] ^= 1;
  const auto zip = Open(changed);
  ASSERT_TRUE(zip.ok()) << zip.status();
  EXPECT_TRUE(absl::IsDataLoss(zip->Verify(*zip->Find("a/x"))));
  EXPECT_TRUE(absl::IsDataLoss(zip->Read(*zip->Find("a/x"), 100).status()));
  EXPECT_TRUE(zip->Verify(*zip->Find("a/z")).ok());
}

TEST_F(Zip, WhatIsWrittenIsRead) {
  const std::string path = folder_ / "out.zip";
  auto file = OutputFile::Create(path, false);
  ASSERT_TRUE(file.ok()) << file.status();
  ZipWriter writer(*file);
  ASSERT_TRUE(writer.Add("archive/small", "some bytes").ok());
  // What would be said to be larger than 4 GiB has its sizes in 64 bits.
  ASSERT_TRUE(writer.Begin("archive/large", uint64_t{1} << 33).ok());
  ASSERT_TRUE(writer.Write("in ").ok());
  ASSERT_TRUE(writer.Write("two pieces").ok());
  ASSERT_TRUE(writer.End().ok());
  ASSERT_TRUE(writer.Add("archive/empty", "").ok());
  ASSERT_TRUE(writer.Finish().ok());
  ASSERT_TRUE(file->SyncAndClose().ok());
  ASSERT_TRUE(file->Publish().ok());
  const auto zip = ZipReader::Open(*InputFile::Open(path));
  ASSERT_TRUE(zip.ok()) << zip.status();
  EXPECT_EQ(*zip->Read(*zip->Find("archive/small"), 100), "some bytes");
  EXPECT_EQ(*zip->Read(*zip->Find("archive/large"), 100), "in two pieces");
  EXPECT_EQ(*zip->Read(*zip->Find("archive/empty"), 100), "");
  for (const ZipEntry& entry : zip->entries()) EXPECT_EQ(entry.data_offset % 64, 0u) << entry.name;
}

}  // namespace
}  // namespace ckpt::cli
