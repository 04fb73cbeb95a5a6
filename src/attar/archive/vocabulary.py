"""What skeletons are made of, for deflate to refer back to: the words of ONNX graphs, Keras configs, exported programs.

A small model's graph is mostly words that all graphs share. The bytes are a part of the format: a new vocabulary is a
new codec, and this one stays as long as files that use it. What is most frequent stands last, where references are
shortest.
"""

from __future__ import annotations

_KERAS = (
    b'"Functional","Rescaling","Normalization","GaussianNoise","Embedding","input_dim":,"output_dim":,"LSTM","GRU",'
    b'"Bidirectional","return_sequences":true,"MultiHeadAttention","num_heads":,"key_dim":,"LayerNormalization",'
    b'"Concatenate","Multiply","Add","inbound_nodes":[{"args":[[{"class_name":"__keras_tensor__","config":{"dtype":'
    b'"float32","keras_history":["',
    b'",0,0],"shape":[null,',
    b']}}]],"kwargs":{}}],"input_layers":[["',
    b'",0,0]],"output_layers":[["',
    b'"Conv1D","Conv2DTranspose","SeparableConv2D","DepthwiseConv2D","strides":[2,2],"padding":"same","ZeroPadding2D",'
    b'"padding":[[1,1],[1,1]],"Dropout","rate":0.5,"Activation","activation":"softmax","activation":"gelu",'
    b'"GlobalAveragePooling2D","MaxPooling2D","pool_size":[2,2],"BatchNormalization","config":{"dtype":"float32",'
    b'"epsilon":0.001,"momentum":0.99,"compile_config":{"loss":"sparse_categorical_crossentropy","metrics":["accuracy"],'
    b'"optimizer":{"class_name":"Adam","config":{"learning_rate":0.001}}}{"framework":"keras","model":{"build_config":'
    b'{"input_shape":[null,32,32,3]},"class_name":"Sequential","config":{"build_input_shape":[null,32,32,3],"dtype":'
    b'"float32","layers":[{"class_name":"InputLayer","config":{"batch_shape":[null,224,224,3],"dtype":"float32","name":'
    b'"image","ragged":false,"sparse":false},"module":"keras.layers"},{"class_name":"Conv2D","config":{"data_format":'
    b'"channels_last","dtype":"float32","filters":32,"kernel_size":[3,3],"name":"conv2d","use_bias":false},"module":'
    b'"keras.layers"},{"class_name":"Flatten","config":{"data_format":"channels_last","dtype":"float32","name":"flatten"'
    b'},"module":"keras.layers"},{"class_name":"Dense","config":{"activation":"relu","dtype":"float32","name":"dense_1",'
    b'"units":128},"module":"keras.layers"},{"class_name":"ReLU","config":{"dtype":"float32","name":"relu_1"},"module":'
    b'"keras.layers"}],"name":"sequential"},"module":"keras"}}',
)
_TORCH = (
    b'["embedding","+1","1"],["layer_norm","1",[,"+1","+1",1e-05],["gelu","1"],["softmax.int","1",-1],["matmul","1","2"'
    b'],["transpose.int","1",1,2],["view","1",[,["dropout","1",0.1,false],["max_pool2d","1",[2,2],[2,2]],["cat",["1",'
    b'["adaptive_avg_pool2d","1",[1,1]],["hardtanh","1",0.0,6.0],["sigmoid","1"],["silu","1"],["mul.Tensor","1",'
    b'["mean.dim","1",[-1,-2],true],{"weight":[,"bias":0,"running_mean":["buffer",0],"running_var":["buffer",0],'
    b'"num_batches_tracked":["buffer",{"dtype":5,"sizes":[]}]},["conv2d","1","+2",null,[1,1],[1,1]],["batch_norm","1",'
    b'"+1","+1","+1","+1",false,0.1,1e-05,false],["add.Tensor","1","6"],["relu","1"],"values":[null,1.0,null,0.0,0.99999'
    b',"AAAAAAAAAAA=",{"version":2,"program":{"torch":["2.13.0+cpu",8,20,10],"sizes":[["s77",2]],"inputs":{"x":[-1,3,224,'
    b'224]},"state":{"fc1":{"weight":[128,64],"bias":0},"nodes":[["flatten.using_ints","1",1],["linear","1","+2","+1"],'
    b'["relu","1"],["linear","1","+1","+1"]]},"sites":[[0,2],[6,2]]}',
)
_ONNX = (
    b'"\tTranspose*\x0f\n\x04perm@\x00@\x02@\x01@\x03\xa0\x01\x07"\x06Concat*\x0b\n\x04axis\x18\x01\xa0\x01\x02"\x05'
    b'Slice"\x06Gather"\tUnsqueeze"\x07Squeeze"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02"\x05Shape"\x08Constant"\x03Erf"'
    b'\x03Div"\x04Sqrt"\x03Pow"\x03Sub"\nReduceMean*\x0f\n\x08keepdims\x18\x01\xa0\x01\x02"\x12LayerNormalization"\x07'
    b'Softmax*\x14\n\x04axis\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xa0\x01\x02"\x0bHardSigmoid"\tHardSwish"\x07'
    b'Sigmoid"\x04Clip"\x06Resize"\rConvTranspose"\x04LSTM*\x12\n\x0bhidden_size\x18@\xa0\x01\x02"\x11GlobalAveragePool'
    b'"\x0bAveragePool"\x07MaxPool*\x10\n\tceil_mode\x18\x00\xa0\x01\x02"\x07Flatten"\x07Reshape*\x10\n\tallowzero\x18'
    b'\x01\xa0\x01\x02"\x06MatMul"\x03Mul"\x03Add"\x04Gemm*\x0f\n\x05alpha\x15\x00\x00\x80?\xa0\x01\x01*\x0e\n\x04beta'
    b'\x15\x00\x00\x80?\xa0\x01\x01*\r\n\x06transA\x18\x00\xa0\x01\x02*\r\n\x06transB\x18\x01\xa0\x01\x02"\x12'
    b"BatchNormalization*\x12\n\x08momentum\x15fff?\xa0\x01\x01*\x11\n\x07epsilon\x15\xac\xc5\x277\xa0\x01\x01"
    b'.running_mean.running_var.weight.bias_bias\x12\x04relu\x1a\tnode_relu"\x04Relu\n\x1a\x0bnode_linear\x12\x06linear_'
    b'1\x12\tgetitem_1\x1a\rnode_Conv_142"\x04Conv*\x0c\n\x05group\x18\x01\xa0\x01\x02*\x11\n\x04pads@\x00@\x00@\x00@\x00'
    b'\xa0\x01\x07*\x11\n\x04pads@\x01@\x01@\x01@\x01\xa0\x01\x07*\x15\n\x08auto_pad"\x06NOTSET\xa0\x01\x03*\x10\n\x07'
    b"strides@\x02@\x02\xa0\x01\x07*\x10\n\x07strides@\x01@\x01\xa0\x01\x07*\x12\n\tdilations@\x01@\x01\xa0\x01\x07*\x15"
    b"\n\x0ckernel_shape@\x01@\x01\xa0\x01\x07*\x15\n\x0ckernel_shape@\x03@\x03\xa0\x01\x07\x12\nmain_graph*\x14\x08@\x08@\x10\x01"
    b"B\nfc1.weightp\x01*\x10\x08@\x10\x01B\x08fc1.biasp\x01Z$\n\x05input\n\x05image\x12"
    b"\x1b\n\x19\x08\x01\x12\x15\n\x07\x12\x05batch\n\x02\x08\x03\n\x02\x08 \n\x02\x08 b\x1d\n\x06output\n\x06"
    b"logits\x12\x13\n\x11\x08\x01\x12\r\n\x07\x12\x05batch\n\x02\x08\nB\x04\n\x00\x10\x11B\x04\n\x00\x10\x14\x08\x08\x12"
    b"\x06tf2onnx\x08\x0a\x12\x07pytorch\x1a\n2.13.0+cpu:",
)
VOCABULARY = b"".join([*_KERAS, *_TORCH, *_ONNX])
