/* Runs one signature of a SavedModel through TensorFlow's C API, with no Python in the process.

   run_saved_model DIR OUTPUT_TENSOR OUTPUT_FILE [INPUT_TENSOR DIMS INPUT_FILE]...

   A tensor is an operation and an output index, as in the signature: "generate_z:0". DIMS is "8,128"; the files are raw,
   C order: inputs float32, the output whatever the model gives. Prints the output's dimensions, "8,64,64,3". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

#define MAX_INPUTS 16
#define MAX_RANK 8

static void die(const char *what, const char *why) {
  fprintf(stderr, "run_saved_model: %s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) die(what, TF_Message(status));
}

static TF_Output find(TF_Graph *graph, char *tensor) {
  char *colon = strrchr(tensor, ':');
  if (!colon) die(tensor, "write a tensor as OPERATION:INDEX");
  *colon = '\0';
  TF_Output output = {TF_GraphOperationByName(graph, tensor), atoi(colon + 1)};
  if (!output.oper) die(tensor, "the graph has no such operation");
  return output;
}

static TF_Tensor *read_float32(char *dims, const char *path) {
  int64_t shape[MAX_RANK];
  size_t count = 1;
  int rank = 0;
  for (char *dim = strtok(dims, ","); dim; dim = strtok(NULL, ",")) {
    if (rank == MAX_RANK) die(path, "more dimensions than 8");
    count *= (size_t)(shape[rank++] = atoll(dim));
  }
  TF_Tensor *tensor = TF_AllocateTensor(TF_FLOAT, shape, rank, count * sizeof(float));
  FILE *file = fopen(path, "rb");
  if (!file || fread(TF_TensorData(tensor), sizeof(float), count, file) != count || fgetc(file) != EOF)
    die(path, "cannot read exactly as many float32 values as its dimensions say");
  fclose(file);
  return tensor;
}

int main(int argc, char **argv) {
  int inputs = (argc - 4) / 3;
  if (argc < 4 || (argc - 4) % 3 || inputs > MAX_INPUTS)
    die("usage", "run_saved_model DIR OUTPUT_TENSOR OUTPUT_FILE [INPUT_TENSOR DIMS INPUT_FILE]...");
  const char *tags[] = {"serve"};
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, argv[1]);

  TF_Output places[MAX_INPUTS], fetch = find(graph, argv[2]);
  TF_Tensor *values[MAX_INPUTS], *result = NULL;
  for (int i = 0; i < inputs; ++i) {
    places[i] = find(graph, argv[4 + 3 * i]);
    values[i] = read_float32(argv[5 + 3 * i], argv[6 + 3 * i]);
  }
  TF_SessionRun(session, NULL, places, values, inputs, &fetch, &result, 1, NULL, 0, NULL, status);
  check(status, "run");

  FILE *file = fopen(argv[3], "wb");
  size_t bytes = TF_TensorByteSize(result);
  if (!file || fwrite(TF_TensorData(result), 1, bytes, file) != bytes || fclose(file)) die(argv[3], "cannot write");
  for (int axis = 0; axis < TF_NumDims(result); ++axis) printf(axis ? ",%lld" : "%lld", (long long)TF_Dim(result, axis));
  printf("\n");

  for (int i = 0; i < inputs; ++i) TF_DeleteTensor(values[i]);
  TF_DeleteTensor(result);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
