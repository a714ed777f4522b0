#include "client/examples/data_parallel.h"

#include <chrono>
#include <torch/csrc/distributed/c10d/FileStore.hpp>

namespace train_lm {
namespace {

torch::Tensor ToTensor(const std::string& bytes) {
  torch::Tensor tensor = torch::empty({static_cast<int64_t>(bytes.size())}, torch::kUInt8);
  std::copy(bytes.begin(), bytes.end(), tensor.data_ptr<uint8_t>());
  return tensor;
}

std::string ToBytes(const torch::Tensor& tensor) {
  return std::string(reinterpret_cast<const char*>(tensor.data_ptr<uint8_t>()), tensor.numel());
}

}  // namespace

DataParallel::DataParallel(const std::string& rendezvous, int rank, int ranks)
    : rank_(rank), ranks_(ranks) {
  auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::minutes(5));
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  options->threads = 1;
  auto store = c10::make_intrusive<c10d::FileStore>(rendezvous, ranks);
  group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, ranks, options);
}

void DataParallel::Average(torch::Tensor tensor) {
  std::vector<torch::Tensor> tensors = {tensor};
  group_->allreduce(tensors)->wait();
  tensor.div_(ranks_);
}

void DataParallel::BroadcastFromFirst(torch::Tensor tensor) {
  std::vector<torch::Tensor> tensors = {tensor};
  group_->broadcast(tensors)->wait();
}

void DataParallel::Gather(const torch::Tensor& mine, torch::Tensor& all) {
  std::vector<torch::Tensor> inputs = {mine};
  std::vector<std::vector<torch::Tensor>> outputs = {all.unbind(0)};
  group_->allgather(outputs, inputs)->wait();
}

std::string DataParallel::FromFirst(std::string bytes) {
  torch::Tensor tensor = ToTensor(bytes);
  BroadcastFromFirst(tensor);
  return ToBytes(tensor);
}

std::vector<std::string> DataParallel::GatherBytes(const std::string& bytes) {
  torch::Tensor all = torch::empty({ranks_, static_cast<int64_t>(bytes.size())}, torch::kUInt8);
  Gather(ToTensor(bytes), all);
  std::vector<std::string> result;
  for (const torch::Tensor& one : all.unbind(0)) result.push_back(ToBytes(one));
  return result;
}

void DataParallel::Barrier() { group_->barrier()->wait(); }

}  // namespace train_lm
