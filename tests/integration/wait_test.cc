// What whoever waits for a checkpoint is told once it is committed, and once it is deleted.
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

class Wait : public IntegrationTest {
 protected:
  absl::StatusOr<v1::CheckpointInfo> For(const CheckpointId& id) {
    v1::WaitCheckpointRequest request;
    request.mutable_id()->set_run(id.run);
    request.mutable_id()->set_step(id.step);
    if (!id.incarnation.none()) request.mutable_id()->set_incarnation(id.incarnation.bytes());
    request.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    grpc::ClientContext context;
    v1::WaitCheckpointResponse response;
    const grpc::Status status =
        v1::CatalogService::NewStub(channel())->WaitCheckpoint(&context, request, &response);
    if (!status.ok()) {
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
    }
    return response.checkpoint();
  }
  bool Tag(const std::string& run, uint64_t step, const std::string& tag) {
    v1::TagCheckpointRequest request;
    request.mutable_selector()->set_run(run);
    request.mutable_selector()->set_step(step);
    request.add_add(tag);
    grpc::ClientContext context;
    v1::TagCheckpointResponse response;
    return v1::CatalogService::NewStub(channel())->TagCheckpoint(&context, request, &response).ok();
  }
  bool Delete(const std::string& run, uint64_t step) {
    v1::DeleteCheckpointRequest request;
    request.mutable_selector()->set_run(run);
    request.mutable_selector()->set_step(step);
    grpc::ClientContext context;
    v1::DeleteCheckpointResponse response;
    return v1::CatalogService::NewStub(channel())
        ->DeleteCheckpoint(&context, request, &response)
        .ok();
  }
};

TEST_F(Wait, ItTellsTagsAndMemoryAsShowDoes) {
  const CheckpointId id = NewId("run", 7);
  CKPT_ASSERT_OK(SaveCommitted(id, TestState::Mixed(1), 2));
  ASSERT_TRUE(Tag("run", 7, "best"));
  const absl::StatusOr<v1::CheckpointInfo> shown = Info("run@7");
  ASSERT_TRUE(shown.ok()) << shown.status();
  for (const Incarnation& incarnation : {id.incarnation, Incarnation()}) {
    const absl::StatusOr<v1::CheckpointInfo> waited = For({"run", 7, incarnation});
    ASSERT_TRUE(waited.ok()) << waited.status();
    EXPECT_THAT(waited->tags(), ::testing::ElementsAre("best"));
    EXPECT_TRUE(waited->in_memory());
    EXPECT_EQ(waited->in_memory(), shown->in_memory());
    EXPECT_EQ(waited->checkpoint_uid(), shown->checkpoint_uid());
    EXPECT_TRUE(waited->has_durable_at()) << "what only the table knows stays";
  }
}

TEST_F(Wait, ADeletedCheckpointIsUnknownAtOnceAndMayBeSavedAgain) {
  const CheckpointId id = NewId("run", 7);
  CKPT_ASSERT_OK(SaveCommitted(id, TestState::Mixed(1), 2));
  ASSERT_TRUE(Delete("run", 7));
  CKPT_EXPECT_ERROR(For(id).status(), absl::StatusCode::kNotFound, "run@7");
  CKPT_EXPECT_ERROR(For({"run", 7, Incarnation()}).status(), absl::StatusCode::kNotFound, "run@7");
  CKPT_EXPECT_OK(SaveCommitted(id, TestState::Mixed(2), 2));
  CKPT_EXPECT_OK(Check("run@7", TestState::Mixed(2), 2));
}

}  // namespace
}  // namespace ckpt::testing
