// Staging before it is needed.
#include "tests/rpc_save/save_fixture.h"

namespace ckpt {
namespace {

class PrepareTest : public SaveServiceTest {
 protected:
  grpc::Status Prepare(const std::string& token, uint64_t bytes, uint32_t files,
                       v1::PrepareResponse* response) {
    v1::PrepareRequest request;
    request.set_session_token(token);
    request.set_part_bytes(bytes);
    request.set_files(files);
    context_ = std::make_unique<grpc::ClientContext>();
    return stub_->Prepare(context_.get(), request, response);
  }
  std::unique_ptr<grpc::ClientContext> context_;
  v1::PrepareResponse response_;
};

TEST_F(PrepareTest, TheFirstSaveUsesWhatWasPrepared) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Prepare(client.token(), layout_->part_bytes(), 0, &response_).ok());
  EXPECT_EQ(response_.file_ids_size(), 2);
  EXPECT_FALSE(response_.ring());
  EXPECT_GE(response_.file_bytes(), layout_->part_bytes());
  SaveCall call(*stub_);
  const v1::Accepted accepted = call.Open(MakeBegin(1, 0, 1, *layout_, &client), *layout_);
  EXPECT_TRUE(accepted.file_id() == response_.file_ids(0) ||
              accepted.file_id() == response_.file_ids(1));
  for (const std::string& id : response_.file_ids()) client.Granted(id);  // may be on its way
  EXPECT_EQ(client.granted_count(), 2u);
}

TEST_F(PrepareTest, ErrorsAreToldApart) {
  SessionClient client(rig_.socket_path());
  EXPECT_EQ(Prepare("nobody", 100, 1, &response_).error_code(), grpc::UNAUTHENTICATED);
  EXPECT_EQ(Prepare(client.token(), 100, 1000, &response_).error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(Prepare(client.token(), UINT64_MAX, 1, &response_).error_code(),
            grpc::INVALID_ARGUMENT);
  SessionClient other(rig_.socket_path());
  ASSERT_TRUE(Prepare(other.token(), 40 << 20, 1, &response_).ok());
  EXPECT_EQ(Prepare(client.token(), 40 << 20, 1, &response_).error_code(),
            grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context_->GetServerTrailingMetadata().count("retry-after-ms"), 1u);
  rig_.table().StopAdmitting();
  EXPECT_EQ(Prepare(client.token(), 100, 1, &response_).error_code(), grpc::UNAVAILABLE);
}

TEST_F(PrepareTest, APartBeyondTheBudgetIsPreparedAsARing) {
  SessionClient client(rig_.socket_path());
  ASSERT_TRUE(Prepare(client.token(), uint64_t{1} << 40, 1, &response_).ok());
  EXPECT_TRUE(response_.ring());
  EXPECT_LE(response_.file_bytes(), uint64_t{64} << 20);
}

}  // namespace
}  // namespace ckpt
