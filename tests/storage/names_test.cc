#include "server/storage/names.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ckpt {
namespace {

TEST(Names, AreReadBackAsWhatTheyWereMadeFrom) {
  const FileId file = FileId::Random();
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  EXPECT_EQ(names::ParseDataFile(names::DataFile(file)), file);
  EXPECT_EQ(names::ParsePartManifest(names::PartManifest(file)), file);
  EXPECT_EQ(names::ParseCheckpointManifest(names::CheckpointManifest(uid)), uid);
  EXPECT_EQ(names::ParseLabels(names::Labels(uid)), uid);
}

TEST(Names, OfOtherThingsAreNotTakenForOurs) {
  const FileId file = FileId::Random();
  const std::string hex = file.hex();
  for (const std::string& name :
       {std::string(), std::string(".safetensors"), std::string("model.safetensors"),
        hex.substr(1) + ".safetensors", "0" + hex + ".safetensors", hex + ".part",
        names::Partial(names::DataFile(file)), "../" + hex + ".safetensors",
        std::string(32, '0') + ".safetensors", std::string(32, 'g') + ".safetensors"}) {
    EXPECT_FALSE(names::ParseDataFile(name).has_value()) << name;
  }
  EXPECT_TRUE(names::IsPartial(names::Partial("x")));
  EXPECT_FALSE(names::IsPartial(names::DataFile(file)));
}

}  // namespace
}  // namespace ckpt
