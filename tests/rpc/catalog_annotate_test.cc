// Pins, metrics and notes.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "gmock/gmock.h"
#include "tests/rpc/catalog_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

class AnnotateTest : public CatalogTest {
 protected:
  AnnotateTest() { *request_.mutable_selector() = StepOf("r", 1); }
  absl::Status Annotate() {
    response_.Clear();
    return AnnotateCheckpoint(*catalog_, request_, Never, response_);
  }
  v1::Labels LabelsNow() { return Get(StepOf("r", 1))->labels(); }

  v1::AnnotateCheckpointRequest request_;
  v1::AnnotateCheckpointResponse response_;
};

TEST_F(AnnotateTest, WhatIsNotNamedStays) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  request_.set_pinned(true);
  (*request_.mutable_set_metrics())["eval/loss"] = 0.25;
  (*request_.mutable_set_metrics())["acc"] = -1;
  request_.set_note("before the new data");
  ASSERT_TRUE(Annotate().ok());
  ASSERT_TRUE(Tag(StepOf("r", 1), {"best"}).ok());
  request_.clear_pinned();
  request_.clear_note();
  request_.clear_set_metrics();
  request_.add_remove_metrics("acc");
  request_.add_remove_metrics("never-there");
  ASSERT_TRUE(Annotate().ok());
  const v1::Labels labels = LabelsNow();
  EXPECT_TRUE(labels.pinned());
  EXPECT_EQ(labels.note(), "before the new data");
  EXPECT_EQ(labels.metrics().size(), 1u);
  EXPECT_EQ(labels.metrics().at("eval/loss"), 0.25);
  EXPECT_EQ(labels.tags_size(), 1);
  EXPECT_EQ(response_.labels().note(), labels.note());
  // In the file, which is the truth, and in lists.
  EXPECT_TRUE(store_->folder().ReadLabels(uid)->pinned());
  v1::ListCheckpointsRequest list;
  list.set_run("r");
  const auto listed = List(list);
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_TRUE(listed->checkpoints(0).pinned());
  EXPECT_EQ(listed->checkpoints(0).metrics().at("eval/loss"), 0.25);
  // Tagging keeps them, too.
  ASSERT_TRUE(Tag(StepOf("r", 1), {}, {"best"}).ok());
  EXPECT_TRUE(LabelsNow().pinned());
}

TEST_F(AnnotateTest, APinnedOneIsNotDeleted) {
  Save(IdOf("r", 1));
  request_.set_pinned(true);
  ASSERT_TRUE(Annotate().ok());
  const absl::Status refused = Delete(StepOf("r", 1));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("unpin"));
  request_.set_pinned(false);
  ASSERT_TRUE(Annotate().ok());
  EXPECT_TRUE(Delete(StepOf("r", 1)).ok());
}

TEST_F(AnnotateTest, WhatIsWrongIsRefused) {
  Save(IdOf("r", 1));
  EXPECT_TRUE(absl::IsInvalidArgument(Annotate()));  // nothing to change
  request_.set_note(std::string(kNoteBytesMax + 1, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(Annotate()));
  request_.set_note("");
  for (const char* name : {"", "a b", "a=b", "-x", "../\n"}) {
    request_.clear_set_metrics();
    (*request_.mutable_set_metrics())[name] = 1;
    EXPECT_TRUE(absl::IsInvalidArgument(Annotate())) << name;
  }
  request_.clear_set_metrics();
  (*request_.mutable_set_metrics())["loss"] = std::nan("");
  EXPECT_TRUE(absl::IsInvalidArgument(Annotate()));
  (*request_.mutable_set_metrics())["loss"] = 1;
  request_.add_remove_metrics("loss");
  EXPECT_TRUE(absl::IsInvalidArgument(Annotate()));
  request_.clear_remove_metrics();
  for (size_t i = 0; i < kMetricsPerCheckpointMax; ++i) {
    (*request_.mutable_set_metrics())[absl::StrCat("m", i)] = 1;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(Annotate()));
  EXPECT_TRUE(LabelsNow().metrics().empty());
  request_.mutable_selector()->set_step(2);
  request_.clear_set_metrics();
  EXPECT_TRUE(absl::IsNotFound(Annotate()));
}

}  // namespace
}  // namespace ckpt
